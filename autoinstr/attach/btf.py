"""Offsets of kernel structures, from the running kernel's own type information (BTF).

In:  /sys/kernel/btf/vmlinux. Out: byte offsets and sizes. Format: Documentation/bpf/btf.rst of the kernel.
Never guesses: what is not there is a KeyError, or optional by name.
"""

from __future__ import annotations

import bisect
import contextlib
import struct
from collections.abc import Iterable
from pathlib import Path

VMLINUX = Path("/sys/kernel/btf/vmlinux")

STRUCT, UNION, FUNC = 4, 5, 12
# bytes that follow the 12 of a type, by kind: fixed, and for each of its `vlen` members
EXTRA_FIXED = {1: 4, 3: 12, 14: 4, 17: 4}
EXTRA_EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
# modifiers and typedefs, through which a member's type may be reached
THROUGH = (8, 9, 10, 11, 18)  # typedef, volatile, const, restrict, type tag


class Btf:
    """Structures of a BTF blob, looked up by name."""

    def __init__(self, blob: bytes) -> None:
        magic, header, type_at, type_size, string_at, string_size = struct.unpack_from("<HxxIIIII", blob)
        if magic != 0xEB9F:
            raise ValueError("not BTF")
        self._types = blob[header + type_at : header + type_at + type_size]
        self._strings = blob[header + string_at : header + string_at + string_size]
        self._at: list[int] = [0]  # type id -> offset
        self._by_name: dict[int, int] = {}  # structs: offset of the name -> offset of the type
        self._functions: dict[int, int] = {}  # offset of the name -> offset of the type
        self._index()

    def _index(self) -> None:
        types, at, end = self._types, 0, len(self._types)
        unpack = struct.Struct("<II").unpack_from
        append, by_name, functions = self._at.append, self._by_name, self._functions
        fixed, each = EXTRA_FIXED, EXTRA_EACH
        while at < end:
            name, info = unpack(types, at)
            kind = info >> 24 & 0x1F
            append(at)
            if kind == STRUCT and name:
                by_name.setdefault(name, at)
            elif kind == FUNC:
                functions[name] = at
            at += 12 + fixed.get(kind, 0) + each.get(kind, 0) * (info & 0xFFFF)

    def _string(self, text: str) -> Iterable[int]:
        """Every offset in the string section at which the text stands."""
        needle, at = b"\0" + text.encode() + b"\0", -1
        while (at := self._strings.find(needle, at + 1)) >= 0:
            yield at + 1

    def has_name(self, name: str) -> bool:
        """Is anything of the kernel called that: a value of an enum, say."""
        return any(self._string(name))

    def _named(self, types: dict[int, int], name: str) -> int:
        for offset in self._string(name):
            if offset in types:
                return types[offset]
        raise KeyError(name)

    def _struct(self, name: str) -> int:
        return self._named(self._by_name, name)

    def struct_id(self, name: str) -> int:
        """Type id of a struct. KeyError if there is none."""
        return bisect.bisect_left(self._at, self._struct(name), 1)

    def function_id(self, name: str) -> int:
        """Type id of a function of the kernel. KeyError if there is none."""
        return bisect.bisect_left(self._at, self._named(self._functions, name), 1)

    def _members(self, at: int) -> Iterable[tuple[int, int, int]]:
        """(name offset, type id, offset in bits) of each member of the structure at this offset."""
        _name, info, _size = struct.unpack_from("<III", self._types, at)
        bitfields = info >> 31
        for i in range(info & 0xFFFF):
            name, kind, offset = struct.unpack_from("<III", self._types, at + 12 + 12 * i)
            yield name, kind, offset & 0xFFFFFF if bitfields else offset

    def _aggregate(self, kind: int) -> int | None:
        """Offset of the struct or union behind a type id, through typedefs and qualifiers."""
        for _ in range(8):
            at = self._at[kind]
            _name, info, target = struct.unpack_from("<III", self._types, at)
            if info >> 24 & 0x1F in (STRUCT, UNION):
                return at
            if info >> 24 & 0x1F not in THROUGH:
                return None
            kind = target
        return None

    def _find(self, at: int, member: str) -> int | None:
        for name, kind, offset in self._members(at):
            if name:
                end = self._strings.index(b"\0", name)
                if self._strings[name:end] == member.encode():
                    return offset
                continue
            inner = self._aggregate(kind)
            found = self._find(inner, member) if inner is not None else None
            if found is not None:
                return offset + found
        return None

    def offset(self, name: str, member: str) -> int:
        """Byte offset of a member of a struct, anonymous structs and unions included. KeyError if there is none."""
        return self.bit(name, member)[0]

    def bit(self, name: str, member: str) -> tuple[int, int]:
        """The same of a member of one bit, and the value of that bit in its byte."""
        found = self._find(self._struct(name), member)
        if found is None:
            raise KeyError(f"struct {name} has no member {member}")
        return found // 8, 1 << found % 8

    def size(self, name: str) -> int:
        """Size of a struct in bytes."""
        return int(struct.unpack_from("<III", self._types, self._struct(name))[2])


# What lib/kernel.h reads: struct -> members.
NEEDED: dict[str, tuple[str, ...]] = {
    "task_struct": ("files", "signal", "tgid", "pid", "mm", "real_parent"),
    "signal_struct": ("live", "pids"),
    "pid": ("level", "numbers"),
    "upid": ("nr", "ns"),
    "mm_struct": ("start_code", "arg_start", "arg_end"),
    "linux_binprm": ("filename",),
    "files_struct": ("fdt",),
    "fdtable": ("max_fds", "fd"),
    "file": ("private_data", "f_inode"),
    "inode": ("i_mode", "i_ino"),
    "socket": ("type", "sk"),
    "hlist_head": ("first",),
    "sock": ("sk_err", "sk_protocol", "sk_socket", "sk_wmem_queued", "sk_sndbuf"),
    "proto": ("memory_pressure",),
    "inet_sock": ("inet_sport",),
    "inet_connection_sock": ("icsk_ulp_ops",),
    "tcp_sock": ("snd_una", "bytes_acked", "rcv_nxt", "bytes_received", "write_seq", "copied_seq"),
    "sock_common": (
        "skc_family",
        "skc_num",
        "skc_dport",
        "skc_prot",
        "skc_state",
        "skc_daddr",
        "skc_rcv_saddr",
        "skc_v6_daddr",
        "skc_v6_rcv_saddr",
    ),
}


def defines(btf: Btf) -> dict[str, int]:
    """The OFFSET_* and SIZE_* macros that the kernel side is compiled with."""
    wanted = ((name, member) for name, members in NEEDED.items() for member in members)
    found = {f"OFFSET_{name}_{member}": btf.offset(name, member) for name, member in wanted}
    found["SIZE_upid"] = btf.size("upid")
    found["OFFSET_tcp_sock_syn_data_acked"], found["BIT_tcp_sock_syn_data_acked"] = btf.bit(
        "tcp_sock", "syn_data_acked"
    )
    with contextlib.suppress(KeyError):  # may be in a module
        found["OFFSET_unix_sock_peer"] = btf.offset("unix_sock", "peer")
    with contextlib.suppress(KeyError):  # may not be built in
        found["OFFSET_mptcp_sock_first"] = btf.offset("mptcp_sock", "first")
    with contextlib.suppress(KeyError):  # x86 only
        found["OFFSET_task_fsbase"] = btf.offset("task_struct", "thread") + btf.offset("thread_struct", "fsbase")
    try:
        found["OFFSET_file_f_ref"] = btf.offset("file", "f_ref")
    except KeyError:
        found["OFFSET_file_f_count"] = btf.offset("file", "f_count")
    return found


# Read by plain loads where the kernel has this function, which tells its verifier the type behind an address.
CAST = "bpf_rdonly_cast"
CAST_TO = ("task_struct", "mm_struct", "files_struct", "fdtable", "hlist_head", "file", "socket", "pt_regs")


def cast_defines(btf: Btf) -> dict[str, int]:
    """The KFUNC_* and BTF_ID_* macros, ids of types in the kernel's BTF. KeyError: this kernel can't cast."""
    found = {f"KFUNC_{CAST}": btf.function_id(CAST)}
    return found | {f"BTF_ID_{name}": btf.struct_id(name) for name in CAST_TO}


# A jump that lets the verifier follow a loop for a few turns only. Linux 6.9 has it, but goes wrong where that is
# backwards; the function came with the first kernel that does not (CVE-2024-42072).
MAY_GOTO, SINCE = "BPF_MAY_GOTO", "bpf_preempt_disable"


def loop_defines(btf: Btf) -> dict[str, int]:
    """The macro by which loops are written with it. KeyError: this kernel does not have it."""
    if not btf.has_name(MAY_GOTO):
        raise KeyError(MAY_GOTO)
    btf.function_id(SINCE)
    return {"MAY_GOTO": 1}


# One program for entry and return of a function, which tells on entry whether it is to run on return.
SESSION = "bpf_session_is_return"
SESSION_OF_FUNCTIONS = "BPF_TRACE_UPROBE_SESSION"  # the same is there before of the kernel's own functions


def session_defines(btf: Btf) -> dict[str, int]:
    """The KFUNC_* macro. KeyError: this kernel has no such programs."""
    if not btf.has_name(SESSION_OF_FUNCTIONS):
        raise KeyError(SESSION_OF_FUNCTIONS)
    return {f"KFUNC_{SESSION}": btf.function_id(SESSION)}


def of_kernel(blob: bytes, *, modern: bool, sessions: bool) -> dict[str, int]:
    """`defines` of a kernel with these types; if it can, with `modern` also `cast_defines` and `loop_defines`, with
    `sessions` also `session_defines`.
    """
    btf = Btf(blob)
    found = defines(btf)
    for wanted, more in ((modern, cast_defines), (modern, loop_defines), (sessions, session_defines)):
        if wanted:
            with contextlib.suppress(KeyError):
                found |= more(btf)
    return found
