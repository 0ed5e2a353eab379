"""Instructions, told by a process that is there while there are questions."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from autoinstr import disassemble
from autoinstr.elf import AARCH64, X86_64
from autoinstr.libraries.instructions import Disassembler

PUSH_RET = b"\x55\xc3"
TOLD = [(0x1000, "push", "rbp"), (0x1001, "ret", "")]


@pytest.fixture
def reader() -> Disassembler:
    return Disassembler()


def test_instructions(reader: Disassembler) -> None:
    assert reader.read(PUSH_RET, 0x1000, X86_64) == TOLD
    assert reader.read(b"\xc0\x03\x5f\xd6", 8, AARCH64) == [(8, "ret", "")]


def test_what_is_no_code(reader: Disassembler) -> None:
    assert reader.read(b"", 0, X86_64) == []
    assert reader.read(b"\x06" * 64, 0, X86_64) == []
    assert reader.read(PUSH_RET, 0x1000, X86_64) == TOLD


def test_a_process_that_has_ended_is_replaced(reader: Disassembler) -> None:
    reader.read(PUSH_RET, 0x1000, X86_64)
    process = reader._process
    assert process
    os.kill(process.pid, signal.SIGKILL)
    assert reader.read(PUSH_RET, 0x1000, X86_64) == TOLD
    assert process.returncode == -signal.SIGKILL


def test_it_ends_when_it_is_not_asked(reader: Disassembler) -> None:
    reader.read(PUSH_RET, 0x1000, X86_64)
    end = time.monotonic() + disassemble.LINGER + 10
    while reader._process and time.monotonic() < end:
        reader.rest()
        time.sleep(0.1)
    assert reader._process is None


def test_the_agent_never_imports_what_reads_them(reader: Disassembler) -> None:
    sys.modules.pop("capstone", None)
    reader.read(PUSH_RET, 0x1000, X86_64)
    assert "capstone" not in sys.modules
