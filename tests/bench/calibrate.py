"""What one hit of a probe costs on this machine, whatever the probe does: measured with eBPF programs that do nothing.

The kernel's own statistics (`bpf_stats`) tell the time inside programs. They do not see the way there and back, which
is all that an empty program costs; and reading the clock for them takes time too, which is all they tell of one.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import generators
import meter
from figures import Figures, Part, summary

from autoinstr import elf
from autoinstr.attach import source
from autoinstr.attach.uprobes import attach_event
from autoinstr.bpf_call import program_info

# many and short: what comes between is in few of them
ROUNDS = 11
CALLS, FUNCTIONS = 100_000, 2_000
TEXT = b"int empty_tracepoint(void *context) { return 0; } int empty_function(void *context) { return 0; }"
TRACEPOINTS = (b"sys_enter", b"sys_exit")


class Hits:
    """The process that probes are put on."""

    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def nanoseconds(self, what: str, count: int) -> float:
        """Of one."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{what} {count}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()) / count

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass(frozen=True)
class Probe:
    """One way to be hit. A uretprobe has its hit at the function's entry and one at its return, seen as one."""

    key: str
    what: str
    count: int
    hits: int  # of the probe, in each of these
    attach: Callable[[], object]
    detach: Callable[[], object]


def measure(folder: Path) -> Part:
    """Nanoseconds of one hit."""
    os.environ["BCC_KERNEL_SOURCE"] = str(source.folder() / "include" / "kernel")
    from bcc import BPF  # noqa: PLC0415 - LLVM comes with it: only where it is needed

    program = generators.build("hits", folder)
    bpf = BPF(text=TEXT)
    empty_function = bpf.load_func(b"empty_function", BPF.KPROBE).fd
    with program.open("rb") as file:
        places = elf.functions(file.fileno(), ("nothing", "push"))
    empty = bpf.load_func(b"empty_tracepoint", BPF.RAW_TRACEPOINT)

    def on_function(key: str, what: str, symbol: str, *, on_return: bool = False) -> Probe:
        events: list[int] = []
        at = str(program), places[symbol][0], empty_function

        def attach() -> None:
            events.append(attach_event(*at, on_return=on_return))

        return Probe(key, what, FUNCTIONS, 1, attach, lambda: os.close(events.pop()))

    probes = (
        Probe(
            "tracepoint_ns",
            "calls",
            CALLS,
            len(TRACEPOINTS),
            lambda: [bpf.attach_raw_tracepoint(name, b"empty_tracepoint") for name in TRACEPOINTS],
            lambda: [bpf.detach_raw_tracepoint(name) for name in TRACEPOINTS],
        ),
        on_function("uprobe_ns", "functions", "nothing"),
        on_function("uprobe_push_ns", "pushes", "push"),
        on_function("uretprobe_ns", "functions", "nothing", on_return=True),
    )
    hits = Hits(program)
    rounds: list[Figures] = []
    for _ in range(ROUNDS):
        found: Figures = {}
        for probe in probes:
            without = hits.nanoseconds(probe.what, probe.count)
            probe.attach()
            found[probe.key] = (hits.nanoseconds(probe.what, probe.count) - without) / probe.hits
            if probe.what == "calls":
                found["statistics_ns"] = told_of_nothing(hits, empty.fd)
            probe.detach()
        rounds.append(found)
    hits.close()
    return {"title": "one hit of a probe that does nothing", **summary(rounds)}


def told_of_nothing(hits: Hits, program: int) -> float:
    """Nanoseconds that the kernel's statistics tell of a run of the empty program."""
    time, runs, _ = program_info(program)
    with meter.bpf_stats():
        hits.nanoseconds("calls", CALLS)
    time_after, runs_after, _ = program_info(program)
    return (time_after - time) / (runs_after - runs)
