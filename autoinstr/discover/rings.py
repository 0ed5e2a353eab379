"""Whether a process sends or receives through its rings of io_uring, or has them for something else.

libuv, for one, opens a ring with every event loop to tell epoll what to wait for, and moves all data by system calls.
In: a process. Out: yes or no. A ring keeps what was last submitted through it, as many entries as it has; it is mapped
here to be read. What can't be read is taken for traffic.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import struct

from autoinstr.discover.process import Process

RING = "anon_inode:[io_uring]"
PIDFD_GETFD = 438  # the system call's number, on all architectures
SUBMITTED_AT = 0x10000000  # IORING_OFF_SQES
ENTRY = struct.Struct("<BB2xi56x")  # struct io_uring_sqe: opcode, flags, descriptor
FIXED_FILE = 1  # IOSQE_FIXED_FILE: the descriptor is a number of the ring's own
# enum io_uring_op: what is for sockets alone (SENDMSG, RECVMSG, ACCEPT, SEND, RECV, SEND_ZC, SENDMSG_ZC, RECV_ZC), and
# for files, too (READV, WRITEV, READ_FIXED, WRITE_FIXED, READ, WRITE, SPLICE, READ_MULTISHOT, READV_FIXED, and
# WRITEV_FIXED)
OF_SOCKETS = frozenset((9, 10, 13, 26, 27, 47, 48, 58))
OF_ANY = frozenset((1, 2, 4, 5, 22, 23, 30, 49, 60, 61))
LAST_KNOWN = 61
MAX_RINGS = 64  # of one process that are read

_libc = ctypes.CDLL(None, use_errno=True)
_SUBMITTED = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) \S+ 10000000 .*anon_inode:\[io_uring\]$", re.MULTILINE)


def carry_traffic(process: Process) -> bool:
    """Has it a ring through which it sends or receives?"""
    rings = [number for number, link in process.descriptors() if link == RING]
    if not rings or len(rings) > MAX_RINGS:
        return bool(rings)
    sizes = {int(end, 16) - int(start, 16) for start, end in _SUBMITTED.findall(process.maps)}
    return any(_carries(process, number, sorted(sizes, reverse=True)) for number in rings)


def _carries(process: Process, number: str, sizes: list[int]) -> bool:
    try:
        entries = _read(process.pid, int(number), sizes)
    except OSError:
        return True
    return any(_is_traffic(process, *entry) for entry in {*ENTRY.iter_unpack(entries)})


def _is_traffic(process: Process, operation: int, flags: int, descriptor: int) -> bool:
    if operation in OF_ANY:
        return bool(flags & FIXED_FILE) or process.link(f"fd/{descriptor}").startswith("socket:")
    return operation in OF_SOCKETS or operation > LAST_KNOWN


def _read(pid: int, number: int, sizes: list[int]) -> bytes:
    """What was last submitted through this ring. `sizes`: those of its process's rings, the largest first."""
    process = os.pidfd_open(pid)
    try:
        ring = _libc.syscall(PIDFD_GETFD, process, number, 0)
    finally:
        os.close(process)
    if ring < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    try:
        for size in sizes:
            try:
                return _copy(ring, size)
            except OSError:
                continue  # before Linux 6.10, no more is mapped than there is
    finally:
        os.close(ring)
    raise FileNotFoundError(number)


def _copy(ring: int, size: int) -> bytes:
    """Its entries, of which no more than fit into `size`. The kernel copies them: memory that ends before its mapping
    does is an error there, and would be the end of this process here."""
    copy = os.memfd_create("entries")
    try:
        with mmap.mmap(ring, size, mmap.MAP_SHARED, mmap.PROT_READ, offset=SUBMITTED_AT) as entries:
            return os.pread(copy, os.write(copy, entries), 0)
    finally:
        os.close(copy)
