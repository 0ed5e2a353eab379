"""Programs keep to the stack of the task that runs them; in the kernel itself."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Callable

import pytest

from autoinstr.attach.image import Program
from autoinstr.attach.loader import RAW_TRACEPOINT, load_instructions, load_program
from autoinstr.attach.private_stack import gives_private_stacks, without_private_stack
from autoinstr.attach.uprobes import KPROBE
from autoinstr.bpf_call import BpfCommand, bpf

ADDS_ITS_CPU = bytes.fromhex("654c030c25")  # add r9, gs:[...]: the address of a private stack is made so
# *(u64 *)(r10 - 128) = 0; r0 = 0; exit
DEEP = b"".join(struct.pack("<BBhi", *one) for one in ((0x7A, 10, -128, 0), (0xB7, 0, 0, 0), (0x95, 0, 0, 0)))
PROGRAM = Program("deep", DEEP, ())
CALL = (0x85, 0, 0, 12)


def machine_code(program: int) -> bytes:
    """What the kernel has made of it."""
    info = ctypes.create_string_buffer(232)
    where = struct.pack("<IIQ", program, len(info), ctypes.addressof(info))
    bpf(BpfCommand.OBJ_GET_INFO_BY_FD, where)
    (size,) = struct.unpack_from("<I", info, 16)
    code = ctypes.create_string_buffer(size)
    ctypes.memset(info, 0, len(info))
    struct.pack_into("<I", info, 16, size)
    struct.pack_into("<Q", info, 24, ctypes.addressof(code))
    bpf(BpfCommand.OBJ_GET_INFO_BY_FD, where)
    return code.raw


def test_which_kernels() -> None:
    assert [gives_private_stacks(one) for one in ("5.10.0-4-amd64", "6.12.9", "6.13", "7.3.4+deb13-amd64", "?")] == [
        *(False, False, True, True, False)
    ]


def test_who_calls_others_stays() -> None:
    calls = Program("calls", DEEP[:8] + struct.pack("<BBhi", *CALL) + DEEP[8:], ((5, "a"),))
    assert without_private_stack(calls) is calls
    longer = without_private_stack(Program("deep", DEEP, ((1, "a"),)))
    assert longer.instructions.endswith(DEEP)
    added = (len(longer.instructions) - len(DEEP)) // 8
    assert longer.relocations[1:] == ((1 + added, "a"),)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads programs")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="knows the machine code of x86-64")
@pytest.mark.skipif(not gives_private_stacks(), reason="needs Linux 6.13, which has private stacks")
@pytest.mark.parametrize("kind", [KPROBE, RAW_TRACEPOINT])
@pytest.mark.parametrize(("load", "private"), [(load_instructions, True), (load_program, False)])
def test_in_the_kernel(load: Callable[..., int], private: bool, kind: int) -> None:
    program = load(PROGRAM, {}, kind, 0)
    try:
        assert (ADDS_ITS_CPU in machine_code(program)) == private
    finally:
        os.close(program)
