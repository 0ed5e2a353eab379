"""What is measured: names, units, and which way is better. One line a figure; tables and comparisons read it here.

Turns give `Figures`, numbers by key; rounds of them become spreads: median, least and most.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Figures = dict[str, float]
Spread = dict[str, float]
Part = dict[str, Any]  # of bench.json: a title, and spreads by key


@dataclass(frozen=True)
class Figure:
    """`scale` and `form` are for people. `better`: +1 more is, -1 less is; 0: not compared between runs, since it
    follows the machine's speed of the moment, or another figure that is compared."""

    key: str
    title: str
    form: str = "{:.1f}"
    better: int = 0
    scale: float = 1.0

    def text(self, value: float) -> str:
        return self.form.format(value * self.scale)


FIGURES = (
    # a load as fast as it goes
    Figure("rate", "requests/s", "{:,.0f}"),
    Figure("throughput_ratio", "throughput, of alone", "{:.2f}", +1),
    Figure("app_us", "application, us of CPU a request"),
    Figure("added_us", "  more than alone, us"),
    Figure("app_ratio", "  of alone", "{:.2f}", -1),
    Figure("agent_user_us", "agent, us of CPU a request: user"),
    Figure("agent_system_us", "  system"),
    Figure("agent_us", "  both"),
    Figure("agent_ratio", "  both, of the application alone", "{:.3f}", -1),
    Figure("cpu_ratio", "application and agent, of alone", "{:.2f}", -1),
    # a load of half of that
    Figure("p50_us", "half as much load: p50, us", "{:,.0f}"),
    Figure("p50_ratio", "  of alone", "{:.2f}", -1),
    Figure("p99_us", "  p99, us", "{:,.0f}"),
    Figure("p99_ratio", "  of alone", "{:.2f}", -1),
    Figure("kept_up", "  answered, of what was asked for", "{:.2f}"),
    # what else it takes
    Figure("exported_bytes", "bytes exported a request", "{:,.0f}", -1),
    Figure("pss_idle_bytes", "memory (Pss) before any load, MB", "{:.0f}", -1, 1e-6),
    Figure("pss_bytes", "memory (Pss), MB", "{:.0f}", -1, 1e-6),
    Figure("pss_heap_bytes", "  heap, MB", "{:.0f}", 0, 1e-6),
    Figure("pss_anonymous_bytes", "  other memory of its own, MB", "{:.0f}", 0, 1e-6),
    Figure("pss_files_bytes", "  programs and libraries, MB", "{:.0f}", 0, 1e-6),
    Figure("map_bytes", "eBPF maps, MiB", "{:.1f}", -1, 1 / (1 << 20)),
    Figure("hits", "probe hits a request", "{:.1f}", -1),
    Figure("function_hits", "  of these on functions, with their returns", "{:.1f}", -1),
    Figure("run_us", "  in eBPF programs, us a request", "{:.2f}"),
    Figure("hit_us", "  on the way there and back, us", "{:.2f}"),
    Figure("socket_us", "  of both, for system calls alone, us", "{:.2f}"),
    # the agent without load
    Figure("ready_s", "start to ready, s", "{:.2f}"),
    Figure("compiled_s", "  when it has to compile", "{:.2f}"),
    Figure("start_cpu_s", "CPU until at rest, s", "{:.1f}"),
    Figure("idle_percent", "idle, % of a core", "{:.2f}"),
    Figure("others_call_ns", "a system call of others takes longer by, ns", "{:,.0f}"),
    # one hit of a probe
    Figure("tracepoint_ns", "raw tracepoint, ns", "{:,.0f}"),
    Figure("uprobe_push_ns", "uprobe on a push, ns", "{:,.0f}"),
    Figure("uprobe_ns", "uprobe elsewhere, ns", "{:,.0f}"),
    Figure("uretprobe_ns", "uretprobe, ns", "{:,.0f}"),
    Figure("statistics_ns", "bpf_stats, of an empty program, ns", "{:,.0f}"),
)


def spread(values: Sequence[float]) -> Spread:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def summary(rounds: Sequence[Figures]) -> dict[str, Spread]:
    """All rounds have the same keys."""
    return {key: spread([one[key] for one in rounds]) for key in rounds[0]}


def related(found: Figures, alone: Figures) -> Figures:
    """What compares a turn with that of the same round without any agent."""
    agent = found.get("agent_user_us", 0) + found.get("agent_system_us", 0)
    return {
        "throughput_ratio": found["rate"] / alone["rate"],
        "added_us": found["app_us"] - alone["app_us"],
        "agent_ratio": agent / alone["app_us"],
        "cpu_ratio": (found["app_us"] + agent) / alone["app_us"],
        **{
            f"{key}_ratio": found[f"{key}_us"] / alone[f"{key}_us"]
            for key in ("app", "p50", "p99")
            if f"{key}_us" in found
        },
    }
