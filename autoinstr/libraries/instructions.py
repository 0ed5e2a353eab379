"""Instructions of functions, told by a process of its own (`disassemble.py`) that is there while there are questions.

In: bytes of code, which may be anything, hostile too. Out: (address, name, operands) of each instruction, as text. To
read them takes nine MB that are of no use afterwards, and a library that reads what strangers wrote: neither is for a
process that stays.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import autoinstr

Line = tuple[int, str, str]
MAX_ANSWER = 16 << 20  # bytes, several times what the largest function makes
# What the interpreter does for its sites would take as long as all the rest, and nothing of ours has to be imported
# from where the agent was started.
_COMMAND = (sys.executable, "-I", "-S", "-c")
_PROGRAM = "import sys; sys.path += sys.argv[1:]; from autoinstr.disassemble import main; sys.exit(main())"


class Disassembler:
    """Starts the process when it is needed; any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, code: bytes, address: int, machine: int) -> list[Line]:
        """`machine`: e_machine of x86-64 or arm64. ChildProcessError: it could not be told."""
        question = json.dumps({"code": code.hex(), "address": address, "machine": machine}).encode() + b"\n"
        with self._lock:
            answer = self._ask(question) if self._process else b""
            if not answer:  # there is none, or it ended just now since it was not asked for a while
                self._start()
                answer = self._ask(question)
        if not answer:
            raise ChildProcessError("its instructions could not be read")
        return [(at, name, text) for at, name, text in json.loads(answer)]

    def rest(self) -> None:
        """Forget a process that has ended."""
        with self._lock:
            if self._process and self._process.poll() is not None:
                self._end()

    def _ask(self, question: bytes) -> bytes:
        """The answer; empty: the process is gone."""
        process = self._process
        assert process and process.stdin and process.stdout
        try:
            process.stdin.write(question)
            process.stdin.flush()
            answer = process.stdout.readline(MAX_ANSWER)
        except BrokenPipeError:
            answer = b""
        if not answer:
            self._end()
        return answer

    def _start(self) -> None:
        capstone = find_spec("capstone")
        found = autoinstr.__file__, capstone and capstone.origin
        places = [str(Path(one).parent.parent) for one in found if one]
        self._process = subprocess.Popen([*_COMMAND, _PROGRAM, *places], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _end(self) -> None:
        process, self._process = self._process, None
        assert process and process.stdin and process.stdout
        process.kill()
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()


_disassembler = Disassembler()
read, rest = _disassembler.read, _disassembler.rest
