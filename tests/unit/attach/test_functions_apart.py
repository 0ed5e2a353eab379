"""Functions of the text that stay functions: put behind the program that calls them."""

from __future__ import annotations

import base64
import struct

from autoinstr.bcc_compile import APART, CALL, KFUNC, LOAD_IMM64, PSEUDO_CALL, PSEUDO_KFUNC_CALL, relocatable


def instruction(operation: int, registers: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", operation, registers, offset, value)


def call(number: int) -> bytes:
    return instruction(CALL, value=number)


EXIT = instruction(0x95)
LOAD_MAP = instruction(LOAD_IMM64, 1 << 4, value=7) + instruction(0)
CODE = {
    "program": call(1) + call(APART | 1) + call(APART | 1) + LOAD_MAP + EXIT,
    "first": LOAD_MAP + call(KFUNC | 12) + EXIT,
    "second": call(APART | 0) + EXIT,
}


def test_called_functions_follow_once_each() -> None:
    made = relocatable("program", ["first", "second"], CODE.__getitem__, {7: "a map"})
    code = list(struct.iter_unpack("<BBhi", base64.b64decode(made["instructions"])))
    assert code[0] == (CALL, 0, 0, 1)  # a helper stays one
    # six of its own, then `second`, which both calls lead to, then `first`
    assert code[1] == (CALL, PSEUDO_CALL << 4, 0, 6 - 2)
    assert code[2] == (CALL, PSEUDO_CALL << 4, 0, 6 - 3)
    assert code[6] == (CALL, PSEUDO_CALL << 4, 0, 8 - 7)
    assert code[10] == (CALL, PSEUDO_KFUNC_CALL << 4, 0, 12)
    assert len(code) == 12
    assert made["relocations"] == [(3, "a map"), (8, "a map")]
