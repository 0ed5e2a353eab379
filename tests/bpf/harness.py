"""The kernel side's framing and pairing, compiled by gcc, from Python: `Connection` is one connection of a process."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoinstr.capture.abi import EXCHANGE, OVERFLOW, Counter, Protocol, Role

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
FLAGS = ["-O1", "-g", "-Wall", "-Werror", "-Wno-unused-function", "-Wno-unused-variable", "-Wno-unknown-pragmas"]


@cache
def library() -> ctypes.CDLL:
    """Compile and load the harness."""
    out = Path(tempfile.mkdtemp(prefix="autoinstr-harness-")) / "harness.so"
    command = ["gcc", *FLAGS, "-shared", "-fPIC", f"-I{ROOT / 'bpf'}", "-o", str(out), str(HERE / "harness.c")]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(out))
    loaded.counter.restype = ctypes.c_uint64
    loaded.move.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint64]
    for reads in (loaded.loop_reads, loaded.some_loop_reads, loaded.task_reads):
        reads.argtypes = [ctypes.c_uint64]
    loaded.serves_now.restype = loaded.runtime_seen.restype = ctypes.c_uint64
    loaded.tell_runtime.argtypes = [ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int]
    loaded.know_it_by.argtypes = [ctypes.c_uint64]
    loaded.submit.argtypes = [ctypes.c_uint64, ctypes.c_int]
    loaded.move_vector.argtypes = [
        *(ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint64)),
        *(ctypes.c_int, ctypes.c_uint64),
    ]
    loaded.move_opaque.argtypes = [ctypes.c_int, ctypes.c_uint64]
    return loaded


class Connection:
    """Feeds bytes as system calls would, and collects what is told."""

    def __init__(self, role: Role = Role.SERVER, *, fresh: bool = True, socket: bool = True) -> None:
        self.library = library()
        self.library.open_connection(int(role), fresh, socket)
        self.role = role

    def read(self, data: bytes) -> None:
        self.library.move(1, data, len(data))

    def write(self, data: bytes) -> None:
        self.library.move(0, data, len(data))

    def request(self, data: bytes) -> None:
        """Bytes of the requesting side, whichever side we are on."""
        (self.write if self.role == Role.CLIENT else self.read)(data)

    def response(self, data: bytes) -> None:
        (self.read if self.role == Role.CLIENT else self.write)(data)

    def enter(self) -> None:
        """A client of HTTP/2 begins a write; what it writes comes later."""
        library().enter()

    def writev(self, *parts: bytes, moved: int | None = None) -> None:
        """`moved`: how much of it the kernel has taken, or a client's write is looked at on its entry."""
        sizes, data = (ctypes.c_uint64 * len(parts))(*map(len, parts)), b"".join(parts)
        self.library.move_vector(0, data, sizes, len(parts), len(data) if moved is None else moved)

    def loop_reads(self, span: int) -> None:
        """The thread, which acts in order, has read a request elsewhere; 0: it does something else."""
        self.library.loop_reads(span)

    def task_reads(self, span: int) -> None:
        """The same of a thread, or a task, that does one thing after the other."""
        self.library.task_reads(span)

    @property
    def serves_now(self) -> int:
        """The span of the request that the thread serves."""
        return int(self.library.serves_now())

    def submit(self, session: int, stream: int) -> None:
        """A call is handed to a session of nghttp2, which will write it."""
        self.library.submit(session, stream)

    def sendfile(self, size: int) -> None:
        self.library.move_opaque(0, size)

    def end(self, error: int = 0) -> None:
        self.library.end_of_connection(error)

    def fill_ring(self, full: bool = True) -> None:
        self.library.fill_ring(full)

    @property
    def ignored(self) -> bool:
        return bool(self.library.is_ignored())

    def counter(self, which: Counter) -> int:
        return int(self.library.counter(int(which)))

    @property
    def told(self) -> NDArray[Any]:
        """EXCHANGE records so far."""
        first = ctypes.c_void_p()
        count = self.library.told_exchanges(ctypes.byref(first))
        if not count:
            return np.zeros(0, EXCHANGE)
        return np.frombuffer(ctypes.string_at(first.value, count * EXCHANGE.itemsize), EXCHANGE)

    @property
    def http2(self) -> bool:
        return bool(self.library.is_http2())

    def aggregated(self, method: bytes, status: int, protocol: Protocol = Protocol.HTTP1) -> Any:
        """The OVERFLOW entry, or None."""
        found = np.zeros(1, OVERFLOW)
        word = int.from_bytes(method[:4], "little")
        there = self.library.aggregated(word, status, int(self.role), int(protocol), ctypes.c_void_p(found.ctypes.data))
        return found[0] if there else None


def lines(told: NDArray[Any]) -> list[str]:
    """Of each exchange: request line's method and target, status, sizes, error."""
    return [line(x) for x in told]


def line(x: Any) -> str:
    """One exchange in short."""
    asked = head(x).splitlines()[0].rsplit(b" ", 1)[0].decode("latin-1") if x["head_size"] else "?"
    error = f" error {x['error']}" if x["error"] else ""
    return f"{asked} {x['status']} {x['request_body']}/{x['response_body']}{error}"


def head(exchange: Any) -> bytes:
    """The kept head of an exchange."""
    return bytes(exchange["head"][: exchange["head_size"]])
