"""`autoinstr check`: what this host allows, what a missing thing costs and how to get it."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoinstr.cli.host import Finding

_MARKS = {"ok": "ok  ", "missing": "miss", "info": "note"}
_WIDTH = 100


class Check:
    """Ask the host."""

    name = "check"
    summary = "say what this host allows, and what to do about what is missing"
    description = (
        "Tries what `autoinstr run` needs: kernel, eBPF, tracepoints, BTF, bcc, privileges. Changes nothing, but\n"
        "keeps the eBPF programs that it compiled, for a quick start.\n"
        "Exit status 1 if `run` can't work here."
    )
    epilog = "For a complete answer run it as `run` will be run: with the same user, container and interpreter."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object instead of text")

    def run(self, arguments: argparse.Namespace) -> int:
        from autoinstr.cli.host import ask_all  # noqa: PLC0415 - subprocess and ctypes, which --help does not need

        findings = ask_all()
        works = not any(finding.fatal for finding in findings)
        if arguments.json:
            print(json.dumps({"ok": works, "checks": [describe(finding) for finding in findings]}, indent=2))
        else:
            print(report(findings, works))
        return 0 if works else 1


def describe(finding: Finding) -> dict[str, Any]:
    """For --json; names stay as they are from now on."""
    return {
        "name": finding.name,
        "state": finding.state,
        "required": finding.required,
        "detail": finding.detail,
        "cost": finding.cost,
        "remedy": finding.remedy,
    }


def report(findings: list[Finding], works: bool) -> str:
    """Lines for people."""
    width = max(len(finding.name) for finding in findings)
    lines: list[str] = []
    said: dict[str, str] = {}  # remedy -> the first finding that it was given for
    for finding in findings:
        indent = " " * (width + 8)
        mark = "FAIL" if finding.fatal else _MARKS[finding.state]
        lines += textwrap.wrap(
            f"{mark}  {finding.name:{width}}  {finding.detail}",
            _WIDTH,
            subsequent_indent=indent,
            break_long_words=False,
        )
        first = said.setdefault(finding.remedy, finding.name)
        remedy = finding.remedy if first == finding.name else f"as for {first}"
        for label, text in (("costs", finding.cost), ("to do", remedy)):
            if text and finding.state != "ok":
                lines += textwrap.wrap(
                    f"{indent}{label}: {text}", _WIDTH, subsequent_indent=indent + "       ", break_long_words=False
                )
    fatal = [finding.name for finding in findings if finding.fatal]
    lines += ["", "`autoinstr run` works here." if works else f"`autoinstr run` can't work here: {', '.join(fatal)}."]
    return "\n".join(lines)
