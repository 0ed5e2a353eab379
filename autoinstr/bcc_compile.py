"""Compiles eBPF programs with bcc: the `main` of a process of its own, and the only place that imports bcc.

In: source, flags and names of programs as JSON on its standard input. Out: an image (`attach/image.py`) as JSON on its
standard output, or an error in words on its standard error. Imports nothing else of ours: starts are waited for.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import struct
import sys
from collections.abc import Callable
from typing import Any

# The text calls a function of the kernel as if it were a helper with this number and the function's BTF id.
KFUNC = 1 << 30

# The text calls a function of its own, that is to stay one, as if it were a helper with this number and the function's.
APART = 1 << 29

LOAD_IMM64 = 0x18  # BPF_LD | BPF_IMM | BPF_DW
PSEUDO_MAP_FD = 1  # in its source register: the value is a map's descriptor
CALL = 0x85  # BPF_JMP | BPF_CALL
PSEUDO_KFUNC_CALL = 2  # in its source register: the value is a BTF id
PSEUDO_CALL = 1  # in its source register: the value is the distance to a function of the same program

INSTALL_BCC = (
    "install the distribution's package (Debian, Ubuntu: python3-bpfcc; Fedora: python3-bcc) and make the virtual "
    "environment from /usr/bin/python3 with --system-site-packages"
)


def main() -> int:
    """The process."""
    request = json.loads(sys.stdin.read())
    try:
        from bcc import BPF, lib  # noqa: PLC0415 - only here, and only now: it costs 100 MB
    except ImportError as error:
        print(f"{sys.executable} can't import bcc ({error}): {INSTALL_BCC}", file=sys.stderr)
        return 1
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the compiler prints wherever it likes
    try:
        bpf = BPF(text=request["source"].encode(), cflags=request["flags"])
    except Exception as error:  # whatever bcc raises: the boundary of this process
        print(error, file=sys.stderr)
        return 1
    lib.bpf_table_name.restype = ctypes.c_char_p
    maps, names = [], {}
    for i in range(lib.bpf_num_tables(bpf.module)):
        name = lib.bpf_table_name(bpf.module, i).decode()
        names[lib.bpf_table_fd_id(bpf.module, i)] = name
        maps.append(
            {
                "name": name,
                "type": lib.bpf_table_type_id(bpf.module, i),
                "key_size": lib.bpf_table_key_size_id(bpf.module, i),
                "value_size": lib.bpf_table_leaf_size_id(bpf.module, i),
                "max_entries": lib.bpf_table_max_entries_id(bpf.module, i),
                "flags": lib.bpf_table_flags_id(bpf.module, i),
            }
        )
    functions = request["functions"]
    programs = [relocatable(name, functions, bpf.dump_func, names) for name in request["programs"]]
    answer.write(json.dumps({"maps": maps, "programs": programs}))
    answer.close()
    os._exit(0)  # bcc would take its time to tidy up


def relocatable(
    name: str, functions: list[str], code_of: Callable[[str], bytes], maps: dict[int, str]
) -> dict[str, Any]:
    """A program as bcc made it, with the descriptors of its own maps taken out again, calls of kernel functions, and
    behind it the functions of the text that it calls.
    """
    code, relocations = bytearray(code_of(name)), []
    begins = dict[int, int]()  # of functions, by number
    at = -1
    while (at := at + 1) < len(code) // 8:
        operation, registers, _offset, value = struct.unpack_from("<BBhi", code, 8 * at)
        if operation == LOAD_IMM64 and registers >> 4 == PSEUDO_MAP_FD:
            relocations.append((at, maps[value]))
            struct.pack_into("<i", code, 8 * at + 4, 0)
        elif operation == CALL and registers == 0 and value & KFUNC:
            struct.pack_into("<BBhi", code, 8 * at, CALL, PSEUDO_KFUNC_CALL << 4, 0, value & ~KFUNC)
        elif operation == CALL and registers == 0 and value & APART:
            number = value & ~APART
            if number not in begins:
                begins[number] = len(code) // 8
                code += code_of(functions[number])
            struct.pack_into("<BBhi", code, 8 * at, CALL, PSEUDO_CALL << 4, 0, begins[number] - at - 1)
    return {"name": name, "instructions": base64.b64encode(code).decode(), "relocations": relocations}
