"""Puts a run's figures where users read them: README's tables (between the marks) and docs/bench.svg.

Usage: publish.py [bench.json]
"""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import chart
from figures import FIGURES, Part

ROOT = Path(__file__).resolve().parents[2]
OF_KEY = {figure.key: figure for figure in FIGURES}
Parts = dict[str, Part]
# applications in Go, and the one whose system calls alone are what theirs would be without probes on functions
OF_GO = {"go": "go", "go-tls": "go", "grpc-go": "grpc-go", "grpc-go-both": "grpc-go-both"}


def value(found: Part, key: str, which: str = "median") -> str:
    return OF_KEY[key].text(found[key][which]) if key in found else "-"


def kept(found: Part) -> str:
    """Throughput, with its spread."""
    if not found:
        return "-"
    middle, least, most = (value(found, "throughput_ratio", which) for which in ("median", "least", "most"))
    return f"{middle} ({least} .. {most})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def of_applications(parts: Parts) -> list[Part]:
    return [part for part in parts.values() if "autoinstr" in part.get("variants", {})]


def how(parts: Parts) -> str:
    fewest = min(part["rounds"] for part in parts.values())
    seconds = [part["seconds"] for part in parts.values()]
    return "\n".join(
        (
            f"Here: a virtual machine with two CPUs and Linux {platform.release().partition('-')[0]}, medians of at"
            f" least {fewest} round{'s' * (fewest != 1)} of {min(seconds)} s a load.",
            "The speed of that machine changes by a factor of two within minutes, so look at ratios, and at your own.",
        )
    )


def applications(parts: Parts) -> str:
    rows = []
    for part in of_applications(parts):
        alone, watched = part["variants"]["alone"], part["variants"]["autoinstr"]
        inside = part["variants"].get("in_process", {})
        agent = watched["agent_user_us"]["median"] + watched["agent_system_us"]["median"]
        latency = (f"{value(one, 'p50_us')} / {value(one, 'p99_us')}" for one in (alone, watched))
        rows.append(
            [
                part["title"].partition(";")[0],
                value(alone, "app_us"),
                f"{value(watched, 'added_us')} + {agent:.1f}",
                kept(watched),
                " → ".join(latency),
                value(inside, "added_us"),
                kept(inside),
            ]
        )
    head = [
        "",
        "CPU of a request, us",
        "autoinstr adds: in the application + in the agent, us",
        "requests/s kept",
        "p50 / p99 at a fixed rate, us",
        "the agent inside adds, us",
        "requests/s kept",
    ]
    return table(head, rows)


def probes(parts: Parts) -> str:
    """What the kernel side does for one request."""
    rows = []
    for part in of_applications(parts):
        watched = part["variants"]["autoinstr"]
        keys = ("hits", "run_us", "hit_us", "exported_bytes", "pss_bytes")
        rows.append([part["title"].partition(";")[0], *(value(watched, key) for key in keys)])
    head = ["", "probe hits a request", "in eBPF programs, us", "on the way there and back, us"]
    return table([*head, "bytes exported a request", "agent's memory (Pss), MB"], rows)


def go(parts: Parts) -> str:
    """What probes on functions of Go add to what its system calls take, without them and without TLS."""
    rows = []
    for name, base in OF_GO.items():
        if any("variants" not in parts.get(one, {}) for one in (name, base)):
            continue
        watched, plain = (parts[one]["variants"]["autoinstr"] for one in (name, base))
        if "socket_us" not in watched or "socket_us" not in plain:
            continue
        all_us = watched["hit_us"]["median"] + watched["run_us"]["median"]
        socket_us = plain["socket_us"]["median"]
        figures = f"{value(watched, 'function_hits')}", f"{all_us:.2f}", f"{socket_us:.2f}", f"{all_us / socket_us:.2f}"
        rows.append([parts[name]["title"].partition(";")[0], *figures])
    head = ["", "hits on functions a request", "all hits, us", "the plain socket path, us", "times that"]
    return table(head, rows)


def settings(parts: Parts, name: str = "full_load", title: str = "nginx, and autoinstr beside it") -> str:
    columns = parts[name]["variants"].values()
    keys = ("app_us", "added_us", "agent_user_us", "agent_system_us", "throughput_ratio", "rate")
    rows = [[OF_KEY[key].title.strip(), *(value(one, key) for one in columns)] for key in keys]
    return table([title, *(one["title"] for one in columns)], rows)


def settings_grpc(parts: Parts) -> str:
    return settings(parts, "full_load_grpc", "grpc-go, unary, and autoinstr beside it")


def at_rest(parts: Parts) -> str:
    agent, hit = parts["no_load"], parts["probes"]
    bystander = parts["bystander"]["variants"]["nginx, plain"]
    return "\n".join(
        (
            f"Start to `ready`: {value(agent, 'ready_s')} s, {value(agent, 'compiled_s')} s the first time, when the"
            " eBPF programs are compiled;",
            f"they are kept in `/var/cache/autoinstr`. CPU until at rest: {value(agent, 'start_cpu_s')} s.",
            f"Idle: {value(agent, 'idle_percent')} % of a core and {value(agent, 'pss_bytes')} MB (Pss).",
            f"eBPF maps: {value(agent, 'map_bytes')} MiB. One hit of a probe that does nothing, on this machine:"
            f" {value(hit, 'tracepoint_ns')} ns of a raw tracepoint,",
            f"which is all that plaintext takes, {value(hit, 'uprobe_push_ns')} ns of a uprobe on an instruction that",
            f"the kernel can emulate, as it mostly is for TLS, and {value(hit, 'uprobe_ns')} ns of a uprobe elsewhere.",
            "A system call of a process that nobody watches takes"
            f" {value(agent, 'others_call_ns')} ns longer, most of it on the kernel's way to two raw tracepoints;",
            f"an nginx that nobody watches bears {value(bystander, 'throughput_ratio')} of its load, beside a load"
            " generator that pays as well.",
        )
    )


def memory(parts: Parts) -> str:
    keys = ("pss_idle_bytes", "pss_bytes", "pss_heap_bytes", "pss_anonymous_bytes", "pss_files_bytes")
    found = parts["memory"]["variants"].values()
    rows = [[one["title"], *(value(one, key) for key in keys)] for one in found]
    head = ["memory (Pss), MB", "before any load", "the most under load", "of it heap", "other memory of its own"]
    return table([*head, "programs and libraries"], rows)


MARKED = {one.__name__: one for one in (how, applications, probes, go, settings, settings_grpc, at_rest, memory)}


def main() -> int:
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "bench.json")
    parts: Parts = json.loads(source.read_text())["parts"]
    readme = ROOT / "README.md"

    def filled(match: re.Match[str]) -> str:
        return f"{match[1]}\n{MARKED[match[2]](parts)}\n{match[4]}"

    readme.write_text(
        re.sub(r"(<!-- bench: (\w+) -->)(.*?)(<!-- end -->)", filled, readme.read_text(), flags=re.DOTALL)
    )
    (ROOT / "docs").mkdir(exist_ok=True)
    (ROOT / "docs" / "bench.svg").write_text(chart.draw(of_applications(parts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
