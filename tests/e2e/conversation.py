"""Conversations over raw sockets, step by step, with every system call that can carry bytes.

In: steps, each done by the client or the server. Both sides walk through the same list: whose turn it is writes exactly
these bytes in these pieces, the other reads exactly them, so that both always agree on where they are.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import select
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ports import free_port

CLIENT, SERVER = "client", "server"
FIRST = 40  # bytes that tell one connection of a case from another
TIMEOUT = 10  # seconds; a side that waits longer is stuck
PIPE_SIZE = 65536
MANY = 7  # bytes an iovec in the calls that use many: cuts everything in odd places
MAX_IOVECS = 1000  # below the kernel's IOV_MAX
MESSAGES = 8  # a call of sendmmsg or recvmmsg
MSG_WAITFORONE = 0x10000
TCP_FASTOPEN_CONNECT, TCP_ZEROCOPY_RECEIVE = 30, 35  # options that Python has no names for

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)


class Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(Iovec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class Mapped(ctypes.Structure):
    """struct tcp_zerocopy_receive: where pages are mapped, and what fills none is copied."""

    _fields_ = (
        ("pages", ctypes.c_uint64),
        ("pages_size", ctypes.c_uint32),
        ("to_read", ctypes.c_uint32),
        ("queued", ctypes.c_uint32),
        ("error", ctypes.c_int32),
        ("copy", ctypes.c_uint64),
        ("copy_size", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
    )


class Mmsghdr(ctypes.Structure):
    _fields_ = (("header", Msghdr), ("size", ctypes.c_uint))


def slices(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


# Sending: each function writes all of the data.


def all_of(write: Callable[[bytes], int]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        while data:
            data = data[write(data) :]

    return run


def send_write(sock: socket.socket, data: bytes) -> None:
    all_of(lambda rest: os.write(sock.fileno(), rest))(data)


def send_writev(sock: socket.socket, data: bytes) -> None:
    all_of(lambda rest: os.writev(sock.fileno(), [rest[:1], b"", rest[1:]]))(data)


def send_writev_many(sock: socket.socket, data: bytes) -> None:
    all_of(lambda rest: os.writev(sock.fileno(), slices(rest, MANY)[:MAX_IOVECS]))(data)


def send_sendmsg(sock: socket.socket, data: bytes) -> None:
    all_of(lambda rest: sock.sendmsg([rest]))(data)


def send_sendmsg_many(sock: socket.socket, data: bytes) -> None:
    all_of(lambda rest: sock.sendmsg(slices(rest, MANY)[:MAX_IOVECS]))(data)


def send_more(sock: socket.socket, data: bytes) -> None:
    """MSG_MORE: the kernel holds back what it was given until the next call."""
    half = len(data) // 2
    sock.sendall(data[:half], socket.MSG_MORE)
    sock.sendall(data[half:])


def message_array(buffers: Sequence[ctypes.Array[ctypes.c_char]]) -> ctypes.Array[Mmsghdr]:
    """One message a buffer, in two iovecs: the first byte, the rest."""
    messages = (Mmsghdr * len(buffers))()
    for message, buffer in zip(messages, buffers, strict=True):
        size, base = len(buffer), ctypes.addressof(buffer)
        first = min(1, size)
        message.header.iov = (Iovec * 2)(Iovec(base, first), Iovec(base + first, size - first))
        message.header.iovlen = 2
    return messages


def send_sendmmsg(sock: socket.socket, data: bytes) -> None:
    while data:
        size = max(1, -(-len(data) // MESSAGES))
        buffers = [ctypes.create_string_buffer(part, len(part)) for part in slices(data, size)]
        messages = message_array(buffers)
        count = libc.sendmmsg(sock.fileno(), messages, len(messages), 0)
        if count < 0:
            raise OSError(ctypes.get_errno(), "sendmmsg")
        data = data[sum(message.size for message in messages[:count]) :]


def send_sendfile(sock: socket.socket, data: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        at = 0
        while at < len(data):
            at += os.sendfile(sock.fileno(), file.fileno(), at, len(data) - at)


def send_splice(sock: socket.socket, data: bytes) -> None:
    reading, writing = os.pipe()
    try:
        for part in slices(data, PIPE_SIZE):
            os.write(writing, part)
            left = len(part)
            while left:
                left -= os.splice(reading, sock.fileno(), left)
    finally:
        os.close(reading)
        os.close(writing)


SEND: dict[str, Callable[[socket.socket, bytes], None]] = {
    "send": lambda sock, data: sock.sendall(data),
    "write": send_write,
    "writev": send_writev,
    "writev-many": send_writev_many,
    "sendmsg": send_sendmsg,
    "sendmsg-many": send_sendmsg_many,
    "sendmmsg": send_sendmmsg,
    "more": send_more,
    "sendfile": send_sendfile,
    "splice": send_splice,
}

# Receiving: each function reads at most n bytes; none at the end of the stream.


def receive_readv(sock: socket.socket, size: int, each: int) -> bytes:
    buffers = [bytearray(min(each, size - at)) for at in range(0, size, each)][:MAX_IOVECS]
    count = os.readv(sock.fileno(), buffers)
    return b"".join(buffers)[:count]


def receive_recvmsg(sock: socket.socket, size: int, each: int) -> bytes:
    buffers = [bytearray(min(each, size - at)) for at in range(0, size, each)][:MAX_IOVECS]
    count = sock.recvmsg_into(buffers)[0]
    return b"".join(buffers)[:count]


def receive_recvmmsg(sock: socket.socket, size: int) -> bytes:
    each = max(1, size // MESSAGES)
    buffers = [ctypes.create_string_buffer(min(each, size - at)) for at in range(0, size, each)]
    messages = message_array(buffers)
    count = libc.recvmmsg(sock.fileno(), messages, len(messages), MSG_WAITFORONE, None)
    if count < 0:
        raise OSError(ctypes.get_errno(), "recvmmsg")
    return b"".join(buffer.raw[: message.size] for buffer, message in zip(buffers[:count], messages, strict=False))


def receive_peek(sock: socket.socket, size: int) -> bytes:
    """Looks twice before it takes, as a server that tells protocols apart does."""
    sock.recv(1, socket.MSG_PEEK)
    seen = sock.recv(size, socket.MSG_PEEK)
    return sock.recv(len(seen)) if seen else b""


def receive_splice(sock: socket.socket, size: int) -> bytes:
    reading, writing = os.pipe()
    try:
        count = os.splice(sock.fileno(), writing, min(size, PIPE_SIZE))
        return os.read(reading, count) if count else b""
    finally:
        os.close(reading)
        os.close(writing)


def receive_mapped(sock: socket.socket, size: int) -> bytes:
    """TCP_ZEROCOPY_RECEIVE; what it leaves, and says so, is read."""
    memory = libc.mmap(None, PIPE_SIZE, mmap.PROT_READ, mmap.MAP_SHARED, sock.fileno(), 0)
    copy = ctypes.create_string_buffer(size)
    try:
        select.select([sock], [], [], TIMEOUT)
        came = Mapped(pages=memory, pages_size=PIPE_SIZE, copy=ctypes.addressof(copy), copy_size=size)
        length = ctypes.c_uint(ctypes.sizeof(came))
        code = libc.getsockopt(
            sock.fileno(), socket.IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, ctypes.byref(came), ctypes.byref(length)
        )
        if code < 0:
            raise OSError(ctypes.get_errno(), "getsockopt")
        data = ctypes.string_at(memory, came.pages_size) + copy.raw[: came.copy_size]
        return data or sock.recv(min(size, came.to_read or size))
    finally:
        libc.munmap(memory, PIPE_SIZE)


def receive_discarded(sock: socket.socket, size: int) -> bytes:
    """MSG_TRUNC: the kernel throws away what comes, and leaves the buffer as it was."""
    seen = sock.recv(size, socket.MSG_PEEK)
    stale = ctypes.create_string_buffer(b"HTTP/1.1 500 Stale\r\nContent-Length: 3\r\n\r\n", len(seen) + 50)
    assert libc.recv(sock.fileno(), stale, len(seen), socket.MSG_TRUNC) == len(seen)
    return seen


def receive_nonblocking(sock: socket.socket, size: int) -> bytes:
    """As an event loop does: asks first, waits when told that there is nothing."""
    while True:
        try:
            return sock.recv(size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            select.select([sock], [], [], TIMEOUT)


RECEIVE: dict[str, Callable[[socket.socket, int], bytes]] = {
    "recv": lambda sock, size: sock.recv(size),
    "read": lambda sock, size: os.read(sock.fileno(), size),
    "readv": lambda sock, size: receive_readv(sock, size, size),
    "readv-many": lambda sock, size: receive_readv(sock, size, MANY),
    "recvmsg": lambda sock, size: receive_recvmsg(sock, size, size),
    "recvmsg-many": lambda sock, size: receive_recvmsg(sock, size, MANY),
    "recvmmsg": receive_recvmmsg,
    "peek": receive_peek,
    "waitall": lambda sock, size: sock.recv(size, socket.MSG_WAITALL),
    "splice": receive_splice,
    "nonblocking": receive_nonblocking,
    "mapped": receive_mapped,
    "discarded": receive_discarded,
}


def receive_exactly(sock: socket.socket, size: int, how: str) -> bytes:
    parts, left = [], size
    while left:
        part = RECEIVE[how](sock, min(left, 1 << 20))
        if not part:
            raise EOFError(f"{left} of {size} bytes never came")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


# Steps


@dataclass(frozen=True)
class Step:
    who: str

    def act(self, sock: socket.socket) -> None:
        """What `who` does."""

    def answer(self, sock: socket.socket) -> None:
        """What the other side does meanwhile."""


@dataclass(frozen=True)
class Say(Step):
    data: bytes
    send: str = "send"
    receive: str = "recv"
    pieces: Sequence[int] = ()  # sizes; one byte each: (1,) * len(data)
    pause: float = 0.0  # between the pieces
    heard: int | None = None  # bytes that the other side reads, if not all

    def _pieces(self, data: bytes) -> list[bytes]:
        parts, at = [], 0
        for size in self.pieces:
            parts.append(data[at : at + size])
            at += size
        return [part for part in (*parts, data[at:]) if part]

    def act(self, sock: socket.socket) -> None:
        for part in self._pieces(self.data):
            SEND[self.send](sock, part)
            if self.pause:
                time.sleep(self.pause)

    def answer(self, sock: socket.socket) -> None:
        for part in self._pieces(self.data[: self.heard]):
            came = receive_exactly(sock, len(part), self.receive)
            assert came == part, f"{came[:80]!r} came instead of {part[:80]!r}"


@dataclass(frozen=True)
class Sleep(Step):
    seconds: float

    def act(self, sock: socket.socket) -> None:
        time.sleep(self.seconds)


@dataclass(frozen=True)
class Close(Step):
    """Closes; the other side reads until it notices."""

    def act(self, sock: socket.socket) -> None:
        sock.close()

    def answer(self, sock: socket.socket) -> None:
        try:
            while sock.recv(65536):
                pass
        except ConnectionError:
            pass
        sock.close()


@dataclass(frozen=True)
class Reset(Close):
    """Closes with RST; the other side may notice only when it writes, so it reads first."""

    def act(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


@dataclass(frozen=True)
class ResetUnnoticed(Reset):
    """Closes with RST; the other side goes on, and fails at its next write."""

    data: bytes = b""

    def answer(self, sock: socket.socket) -> None:
        poll = select.poll()
        poll.register(sock, 0)
        assert poll.poll(TIMEOUT * 1000), "no reset came"
        try:
            sock.sendall(self.data)
        except (ConnectionError, ssl.SSLError):
            sock.close()
            return
        raise AssertionError("could write on a connection that was reset")


@dataclass(frozen=True)
class CloseByRange(Close):
    """close_range(2) takes the descriptor away, as runtimes do before exec."""

    def act(self, sock: socket.socket) -> None:
        number = sock.detach()
        if libc.close_range(number, number, 0) < 0:
            os.close(number)


@dataclass(frozen=True)
class ShutWrite(Step):
    def act(self, sock: socket.socket) -> None:
        sock.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class Die(Close):
    """Is killed in the middle of it: only for a side that plays in a process of its own."""

    def act(self, sock: socket.socket) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Spawn(Step):
    """Starts a program that inherits the connection, and ends at once."""

    def act(self, sock: socket.socket) -> None:
        subprocess.run(["/bin/true"], pass_fds=(sock.fileno(),), check=True)


@dataclass(frozen=True)
class Turn(Step):
    """Where a handler may hand the connection over to another thread or process."""


class Gates:
    """Where conversations wait until the agent has started."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting = 0
        self._open = False

    def wait(self) -> None:
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._open, 60), "the gate was never opened"

    def wait_for_waiting(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._waiting >= count, 30), f"{self._waiting} of {count} wait"

    def open(self) -> None:
        with self._changed:
            self._open = True
            self._changed.notify_all()


gates = Gates()  # of this process


def wait_for_waiting(count: int) -> None:
    gates.wait_for_waiting(count)


def open_gates() -> None:
    gates.open()


@dataclass(frozen=True)
class Gate(Step):
    who: str = ""

    def act(self, sock: socket.socket) -> None:
        gates.wait()

    answer = act


def play(sock: socket.socket, me: str, steps: Sequence[Step]) -> None:
    for step in steps:
        step.act(sock) if step.who == me else step.answer(sock)


# The two ends


def has_multipath() -> bool:
    with suppress(OSError):
        socket.socket(proto=socket.IPPROTO_MPTCP).close()
        return True
    return False


# Multipath TCP, where the kernel has it; if only one end asks for it, it is TCP on the wire
MULTIPATH = ("multipath", "multipath-client", "multipath-server") if has_multipath() else ()
FAMILIES = {
    **{"tcp4": "127.0.0.1", "tcp6": "::1", "mapped": "127.0.0.1", "unix": ""},
    **dict.fromkeys(("fast-open", *MULTIPATH), "127.0.0.1"),
}
listeners: dict[str, socket.socket] = {}  # of this process, by case


def blocking(sock: socket.socket) -> socket.socket:
    """Blocks, but not for ever: the kernel's own time limit leaves the system calls as a plain program makes them."""
    limit = struct.pack("ll", TIMEOUT, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def open_port(address: str, **options: Any) -> socket.socket:
    """Listens at a port that no other case has, or had: what is told without a path is known by it."""
    while True:
        with suppress(OSError):
            return socket.create_server((address, free_port()), **options)


def open_multipath(address: str) -> socket.socket:
    """The same, for Multipath TCP."""
    listener = socket.socket(proto=socket.IPPROTO_MPTCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    while True:
        with suppress(OSError):
            listener.bind((address, free_port()))
            return listener


def listen(case: str, family: str) -> str | int:
    """Opens a listener for a case: a port, or a path."""
    if family == "unix":
        path = str(Path(tempfile.mkdtemp()) / "socket")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
    elif family in ("multipath", "multipath-server"):
        listener = open_multipath(FAMILIES[family])
    elif family == "mapped":
        listener = open_port("::", family=socket.AF_INET6, dualstack_ipv6=True)
    else:
        listener = open_port(FAMILIES[family], family=socket.AF_INET6 if family == "tcp6" else socket.AF_INET)
    listener.listen(64)
    listener.settimeout(None)
    listeners[case] = blocking(listener)
    return path if family == "unix" else int(listener.getsockname()[1])


Handler = Callable[[socket.socket, Sequence[Step]], None]
Accept = Callable[[socket.socket, Sequence[Step], Handler], None]


def just_play(sock: socket.socket, steps: Sequence[Step]) -> None:
    with sock:
        play(sock, SERVER, steps)


def just_visit(sock: socket.socket, steps: Sequence[Step]) -> None:
    with sock:
        play(sock, CLIENT, steps)


def accept_here(listener: socket.socket, steps: Sequence[Step], handler: Handler) -> None:
    handler(blocking(listener.accept()[0]), steps)


def serve(case: str, talks: Sequence[Sequence[Step]], accept: Accept, handler: Handler) -> None:
    """The server's side of a case: one connection after the other."""
    listener = listeners[case]
    for steps in talks:
        accept(listener, steps, handler)
    listener.close()


def serve_at_once(case: str, talks: Sequence[Sequence[Step]], accept: Accept, handler: Handler) -> None:
    """All connections at the same time, a thread each. Which one came is seen from its first bytes."""
    listener = listeners[case]

    def run() -> None:
        sock = blocking(listener.accept()[0])
        first = sock.recv(FIRST, socket.MSG_PEEK | socket.MSG_WAITALL)
        handler(sock, next(steps for steps in talks if steps[0].data[:FIRST] == first))

    at_once([run] * len(talks))
    listener.close()


def visit(family: str, address: str | int, talks: Sequence[Sequence[Step]], handler: Handler) -> list[int]:
    """The client's side of a case. Returns its own port of each connection."""
    return [visit_one(family, address, steps, handler) for steps in talks]


def visit_one(family: str, address: str | int, steps: Sequence[Step], handler: Handler) -> int:
    if family == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(address))
        port = 0
    elif family in ("multipath", "multipath-client", "fast-open"):
        sock = socket.socket(proto=0 if family == "fast-open" else socket.IPPROTO_MPTCP)
        if family == "fast-open":
            sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)  # the first write connects
        sock.connect((FAMILIES[family], int(address)))
        port = sock.getsockname()[1]
    else:
        sock = socket.create_connection((FAMILIES[family], int(address)), TIMEOUT)
        sock.settimeout(None)
        port = sock.getsockname()[1]
    handler(blocking(sock), steps)
    return port


def visit_at_once(family: str, address: str | int, talks: Sequence[Sequence[Step]], handler: Handler) -> list[int]:
    ports: list[int] = [0] * len(talks)

    def run(number: int) -> None:
        ports[number] = visit_one(family, address, talks[number], handler)

    at_once([lambda number=number: run(number) for number in range(len(talks))])
    return ports


def at_once(jobs: Sequence[Callable[[], None]]) -> None:
    errors: list[Exception] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except Exception as error:  # raised again below, in the thread that waits
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def duplicate(sock: socket.socket, way: str) -> socket.socket:
    """The same connection under another number."""
    number = sock.fileno()
    if way == "fcntl":
        number = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, number + 50)
    elif way == "dup2":
        # over a number that is ours: other conversations open theirs at the same time
        number = os.dup2(number, fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, number + 60))
    else:
        number = os.dup(number)
    copy = socket.socket(fileno=number)
    copy.settimeout(None)
    return copy
