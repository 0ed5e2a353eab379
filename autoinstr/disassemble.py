"""Tells instructions as text: the `main` of a process of its own, and the only place that imports capstone.

In: a line of JSON on its standard input for each function: code, its address, the architecture. Out: a line of JSON on
its standard output: [address, name, operands] of each instruction. Ends by itself when it was not asked for a while, or
when one question takes too long. Imports nothing else of ours: probes wait for it.
"""

from __future__ import annotations

import json
import signal
import sys

LINGER = 5  # seconds without a question: programs come in groups
WITHIN = 10  # seconds for one
X86_64 = 62  # e_machine; else arm64


def main() -> int:
    """The process."""
    import capstone  # noqa: PLC0415 - only here, and only now: it costs 9 MB

    x86 = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    arm = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    arm.skipdata = True  # constants stand behind the code
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the agent's to act on: then there are no more questions
    signal.alarm(LINGER)
    for line in sys.stdin.buffer:
        signal.alarm(WITHIN)
        asked = json.loads(line)
        reader = x86 if asked["machine"] == X86_64 else arm
        found = reader.disasm_lite(bytes.fromhex(asked["code"]), asked["address"])
        print(json.dumps([(at, name, text) for at, _, name, text in found]), flush=True)
        signal.alarm(LINGER)
    return 0
