"""Ways to carry trace contexts to other hosts: which programs they take, where these attach, and whether that is safe.

In: what is loaded, and a way. Out: descriptors; closing them, or the end of this process for whatever reason, detaches,
and connections go on without.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from autoinstr.attach.uprobes import KPROBE
from autoinstr.bpf_call import BpfCommand, bpf, instructions
from autoinstr.errors import AutoinstrError

SOCK_OPS, SK_MSG, CGROUP_SOCKOPT = 13, 16, 25  # BPF_PROG_TYPE_*
CGROUP_SOCK_OPS, SK_MSG_VERDICT, CGROUP_SETSOCKOPT = 3, 7, 22  # BPF_*, places to attach to
SOCKHASH = 18  # BPF_MAP_TYPE_*

# way -> its programs and their types; those with a place of their own run on sockets of all control groups
PROGRAMS: dict[str, dict[str, int]] = {
    # where a target has such functions
    "go": dict.fromkeys(("propagate_go", "propagate_go_http2", "propagate_go_http2_x", "propagate_go_rpc"), KPROBE),
    "headers": {
        "propagate_option": CGROUP_SOCKOPT,
        "propagate_headers": SOCK_OPS,
        "propagate_message": SK_MSG,
        "propagate_frames": SK_MSG,
        "propagate_insert": SK_MSG,
    },
    "tcp": {"propagate_tcp": SOCK_OPS},
}
PLACES = {CGROUP_SOCKOPT: CGROUP_SETSOCKOPT, SOCK_OPS: CGROUP_SOCK_OPS}
WAYS = tuple(PROGRAMS)
SOCKETS = "propagating"  # map of those whose messages are looked at
# what its second program goes on with, in the order of enum MESSAGE_* (bpf/maps.h)
MESSAGE_STEPS = ("propagate_frames", "propagate_insert")

FIRST_CGROUP_NAMESPACE = 0xEFFFFFFB  # PROC_CGROUP_INIT_INO of the kernel

SIOCINQ = termios.FIONREAD
SO_MEMINFO, QUEUED = 55, 5  # SK_MEMINFO_WMEM_QUEUED
TRIED = (64, 3_000, 40_000)  # bytes of a message, so that it lies in one piece and in several
AT, MORE = 20, 70  # what a trial inserts, and where
WITHIN = 2.0  # seconds for bytes to go over loopback

# r2 = AT; r3 = MORE; r4 = 0; bpf_msg_push_data(); r0 = SK_PASS; exit
_ARGUMENTS = ((0xB7, 2, 0, AT), (0xB7, 3, 0, MORE), (0xB7, 4, 0, 0))
_INSERT = instructions(*_ARGUMENTS, (0x85, 0, 0, 90), (0xB7, 0, 0, 1), (0x95, 0, 0, 0))
# *(u64 *)(fp - 8) = 0; r1 = 0; r2 = fp - 8; r3 = 8; bpf_probe_write_user(); r0 = 0; exit
_WRITE = instructions(
    *((0x7A, 10, -8, 0), (0xB7, 1, 0, 0), (0xBF, 0xA2, 0, 0), (0x07, 2, 0, -8), (0xB7, 3, 0, 8)),
    *((0x85, 0, 0, 36), (0xB7, 0, 0, 0), (0x95, 0, 0, 0)),
)
# r0 = 1; exit
_NOTHING = instructions((0xB7, 0, 0, 1), (0x95, 0, 0, 0))


def allow(ways: Iterable[str]) -> None:
    """AutoinstrError if this host refuses one of them."""
    for way in ways:
        if reason := why_not(way):
            raise AutoinstrError(f"--propagate {way} is refused: {reason}")


def attach_way(way: str, programs: dict[str, int], maps: dict[str, int]) -> dict[str, int]:
    """Attach what is loaded of a way: descriptors of the links. AutoinstrError if that can't be."""
    links: dict[str, int] = {}
    try:
        if SOCKETS in maps:
            attach_to_map(programs["propagate_message"], maps[SOCKETS])
        for name, kind in PROGRAMS[way].items():
            if kind in PLACES:
                links[name] = attach_to_cgroup(programs[name], PLACES[kind])
        return links
    except OSError as error:
        for link in links.values():
            os.close(link)
        raise AutoinstrError(f"--propagate {way} can't be attached: {error.strerror}") from error


def attach_to_map(program: int, sockets: int) -> None:
    """A program on messages of the sockets in a map, as long as the map is there."""
    bpf(BpfCommand.PROG_ATTACH, struct.pack("<IIII", sockets, program, SK_MSG_VERDICT, 0))


def attach_to_cgroup(program: int, at: int = CGROUP_SOCK_OPS) -> int:
    """A program on the sockets of all control groups: descriptor of the link. OSError if that can't be."""
    folder = os.open(cgroup_root(), os.O_RDONLY | os.O_CLOEXEC)
    try:
        return bpf(BpfCommand.LINK_CREATE, struct.pack("<IIII", program, folder, at, 0))
    finally:
        os.close(folder)


def cgroup_root(mounts: str = "") -> str:
    """Where the unified hierarchy is mounted. FileNotFoundError: nowhere."""
    for line in (mounts or Path("/proc/self/mounts").read_text()).splitlines():
        _device, path, kind, *_rest = line.split()
        if kind == "cgroup2":
            return path
    raise FileNotFoundError(0, "no unified hierarchy of control groups (cgroup v2) is mounted")


def why_not(way: str) -> str:
    """Why it can't be done here, or not without harm; empty if it can. Tried, if need be on sockets of our own."""
    try:
        return next((reason for trial in TRIALS_OF[way] if (reason := trial())), "")
    except OSError as error:
        return f"this kernel does not allow it ({error.strerror})"


def no_writing() -> str:
    """May a program write to a process's memory? The kernel's log tells of each that is loaded, of this one, too."""
    try:
        os.close(load(KPROBE, _WRITE))
    except OSError as error:
        return (
            f"this kernel lets no program write to the memory of processes ({error.strerror}): that takes"
            " CAP_SYS_ADMIN, and a kernel that is not locked down (man kernel_lockdown)"
        )
    return ""


def no_control_groups() -> str:
    """May a program run on the sockets of control groups? OSError: why not."""
    with contextlib.closing(Descriptors()) as held:
        held.keep(attach_to_cgroup(held.keep(load(SOCK_OPS, _NOTHING))))
    return ""


class Descriptors:
    """What a trial has opened."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def keep(self, fd: int) -> int:
        """Close it with the others."""
        self._held.append(fd)
        return fd

    def close(self) -> None:
        """All of them."""
        while self._held:
            os.close(self._held.pop())


def load(kind: int, code: bytes) -> int:
    """A small program: its descriptor."""
    instructions, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    addresses = ctypes.addressof(instructions), ctypes.addressof(licence)
    return bpf(BpfCommand.PROG_LOAD, struct.pack("<IIQQ", kind, len(code) // 8, *addresses))


def harm_of_messages() -> str:
    """What happens to a socket whose messages are changed: a pair of our own, one end of it in a map of sockets."""
    with contextlib.closing(Descriptors()) as held:
        sockets = held.keep(bpf(BpfCommand.MAP_CREATE, struct.pack("<IIII", SOCKHASH, 8, 4, 1)))
        attach_to_map(held.keep(load(SK_MSG, _INSERT)), sockets)
        with contextlib.ExitStack() as stack:
            ours, others = (stack.enter_context(end) for end in pair())
            key, value = struct.pack("<Q", 1), struct.pack("<I", ours.fileno())
            buffers = [ctypes.create_string_buffer(part, len(part)) for part in (key, value)]
            bpf(BpfCommand.MAP_UPDATE_ELEM, struct.pack("<IxxxxQQQ", sockets, *map(ctypes.addressof, buffers), 0))
            for trial in TRIALS:
                if reason := trial(ours, others):
                    return reason
    return ""


def pair() -> Iterator[socket.socket]:
    """Both ends of a TCP connection to ourselves; that which connected first."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WITHIN)
        yield socket.create_connection(listener.getsockname(), WITHIN)
        end, _address = listener.accept()
        end.settimeout(WITHIN)
        yield end


def wrong_inq(ours: socket.socket, others: socket.socket) -> str:
    """FIONREAD of the end in the map; from some kernels on it tells of none of the bytes that have come."""
    others.sendall(bytes(TRIED[0]))
    seen, _, _ = select.select([ours], [], [], WITHIN)
    waiting = struct.unpack("i", fcntl.ioctl(ours, SIOCINQ, bytes(4)))[0] if seen else 0
    if waiting != TRIED[0]:
        return (
            f"with this kernel a socket whose messages may be changed tells its program that {waiting} of {TRIED[0]}"
            " bytes can be read (ioctl FIONREAD), so that nginx, Java and .NET stop reading (so do Linux 6.6.128,"
            " 6.12.75, 6.18.14, 6.19 and some that followed; 7.3 does not)"
        )
    return "" if len(ours.recv(TRIED[0])) == TRIED[0] else "bytes went missing"


def wrong_bytes(ours: socket.socket, others: socket.socket) -> str:
    """What the other end gets of messages of several sizes, beside what was inserted."""
    for size in TRIED:
        sent = bytes(i * 7 & 0xFF for i in range(size))
        ours.setblocking(True)
        got = b""
        moved = 0
        while moved < size:
            moved += ours.send(sent[moved:])
            if moved != size:
                return "a message of ours was taken in part"
        while len(got) < size + MORE:
            got += others.recv(1 << 16)
        if got[:AT] + got[AT + MORE :] != sent:
            return f"this kernel garbles a message of {size} bytes when something is inserted"
    return ""


def wrong_memory(ours: socket.socket, _others: socket.socket) -> str:
    """Bytes that the kernel believes to be queued when all were received."""
    until = time.monotonic() + WITHIN
    while (queued := struct.unpack_from("9I", ours.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[QUEUED]) and (
        time.monotonic() < until
    ):
        time.sleep(0.01)
    return f"this kernel loses count of a socket's memory when something is inserted ({queued} bytes)" if queued else ""


TRIALS: tuple[Callable[[socket.socket, socket.socket], str], ...] = (wrong_inq, wrong_bytes, wrong_memory)
TRIALS_OF: dict[str, tuple[Callable[[], str], ...]] = {
    "go": (no_writing,),
    "headers": (no_control_groups, harm_of_messages),
    "tcp": (no_control_groups,),
}
