"""Compiles the kernel side with bcc, in a process of its own.

That process runs `main`: source and flags as JSON on its standard input, an `Image` as JSON on its standard output, or
an error in words on its standard error. It is the only place that imports bcc.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from autoinstr.attach.image import KFUNC, Image, Map, Program
from autoinstr.errors import AutoinstrError

COMPILE_SECONDS = 300

LOAD_IMM64 = 0x18  # BPF_LD | BPF_IMM | BPF_DW
PSEUDO_MAP_FD = 1  # in its source register: the value is a map's descriptor
CALL = 0x85  # BPF_JMP | BPF_CALL
PSEUDO_KFUNC_CALL = 2  # in its source register: the value is a BTF id

INSTALL_BCC = (
    "install the distribution's package (Debian, Ubuntu: python3-bpfcc; Fedora: python3-bcc) and make the virtual "
    "environment from /usr/bin/python3 with --system-site-packages"
)


def compile_image(source: str, flags: Sequence[str], programs: Sequence[str], headers: Path) -> Image:
    """The image of these programs. AutoinstrError with the compiler's words if it fails."""
    request = json.dumps({"source": source, "flags": list(flags), "programs": list(programs)})
    environment = os.environ | {"BCC_KERNEL_SOURCE": str(headers)}
    command = [sys.executable, "-c", "import sys; from autoinstr.attach.compiler import main; sys.exit(main())"]
    try:
        done = subprocess.run(
            command,
            input=request,
            env=environment,
            text=True,
            capture_output=True,
            timeout=COMPILE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AutoinstrError(f"compiling the eBPF programs took more than {COMPILE_SECONDS} s: gave up") from error
    if done.returncode:
        raise AutoinstrError(f"can't compile the eBPF programs: {done.stderr.strip()[-8000:] or 'out of memory?'}")
    return Image.from_json(done.stdout)


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
            Map(
                name,
                lib.bpf_table_type_id(bpf.module, i),
                lib.bpf_table_key_size_id(bpf.module, i),
                lib.bpf_table_leaf_size_id(bpf.module, i),
                lib.bpf_table_max_entries_id(bpf.module, i),
                lib.bpf_table_flags_id(bpf.module, i),
            )
        )
    programs = tuple(relocatable(name, bpf.dump_func(name), names) for name in request["programs"])
    answer.write(Image(tuple(maps), programs).to_json())
    answer.close()
    os._exit(0)  # bcc would take its time to tidy up


def relocatable(name: str, instructions: bytes, maps: dict[int, str]) -> Program:
    """A program as bcc made it, with the descriptors of its own maps taken out again, and calls of kernel functions."""
    code = bytearray(instructions)
    relocations = []
    for at in range(0, len(code), 8):
        operation, registers, _offset, value = struct.unpack_from("<BBhi", code, at)
        if operation == LOAD_IMM64 and registers >> 4 == PSEUDO_MAP_FD:
            relocations.append((at // 8, maps[value]))
            struct.pack_into("<i", code, at + 4, 0)
        elif operation == CALL and registers == 0 and value & KFUNC:
            struct.pack_into("<BBhi", code, at, CALL, PSEUDO_KFUNC_CALL << 4, 0, value & ~KFUNC)
    return Program(name, bytes(code), tuple(relocations))
