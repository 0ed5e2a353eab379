"""Requests of odd shapes through `--propagate`, every byte held against what arrives. Root.

Usage: torture.py [--requests 1000000] [--way tcp|headers|go] [--seed N] [--kill] [--http 1|2]

`odd.c` writes and reads them, of HTTP/1; for `headers` then `frames.py` a fifth as many, of HTTP/2; for `go` Go's
clients (`go_client.py`), as many of either. The agent watches it. `--kill`: the agent is killed in the middle, and all
goes on. `--http`: only that version.
Prints what was sent and what was inserted. Exit status 1: a byte was not right, or a request hung; 3: this host refuses
the way. Where `headers` is refused for FIONREAD alone the bytes are compared in spite of that.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import go_client  # noqa: E402 - found by the line above
from agent import PROGRAM, Agent  # noqa: E402
from link import Link  # noqa: E402

FRAMES = HERE / "frames.py"
REFUSED = 3
REQUESTS = 1_000_000
WAYS = ("tcp", "headers", "go")


class Wrong(Exception):  # noqa: N818 - it is what it is
    """A byte was not right, or something hung."""


def build(folder: Path) -> Path:
    """The program; static, so that it runs in any guest."""
    program = folder / "odd"
    subprocess.run(["gcc", "-O2", "-pthread", "-static", "-o", program, HERE / "odd.c"], check=True)
    return program


def torment(program: Path, way: str, requests: int, *, seed: int = 1, kill: bool = False) -> dict[str, int]:
    """What `odd` counted, with the agent on its requests. `way`: "" for no propagation. Wrong, or AssertionError."""
    with ExitStack() as stack:
        place = ["127.0.0.1"]
        if way == "tcp":
            link = stack.enter_context(Link())
            place = [link.there, str(link.file)]
        command = [str(program), str(requests), str(seed), *place]
        if program == FRAMES:
            command = [sys.executable, *command[:3]]
        odd = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(odd.kill)
        assert odd.stdin
        assert odd.stdout
        assert odd.stdout.readline() == "listening\n"
        flags = ["--propagate", way] if way else []
        agent = Agent("--pid", odd.pid, *flags, "--sampler", "always_off", exports=["none"], program=program_for(way))
        stack.callback(agent.kill)
        agent.wait_ready()
        odd.stdin.write("go\n")
        odd.stdin.flush()
        if kill:
            time.sleep(0.3)  # in the middle of it
            assert odd.poll() is None, "it was over before the agent was killed"
            os.kill(agent.pid, signal.SIGKILL)
        words = odd.stdout.readline()
        if odd.wait(30) or not words:
            raise Wrong(f"exit status {odd.returncode}: {words}")
        if not kill:
            agent.stop()
        return dict(json.loads(words))


def complaints(found: dict[str, int], way: str, *, kill: bool = False) -> list[str]:
    """What `odd` can't know to be wrong by itself."""
    wrong = []
    if way != "headers" and found["inserted"]:
        wrong.append(f"{found['inserted']} fields were inserted")
    if found.get("inq_wrong") and not (way == "headers" and refusal(way)):
        wrong.append(f"{found['inq_wrong']} times FIONREAD was wrong")
    if way == "headers" and not kill and found["plain_inserted"] < 0.9 * found["plain"]:
        wrong.append(f"of {found['plain']} plain requests {found['plain_inserted']} got the field")
    return wrong


def refusal(way: str) -> str:
    """Why this host refuses it, as the command says it; empty: it does not. `way`: "" for none."""
    from autoinstr.attach.propagation import why_not  # noqa: PLC0415 - the agent's own answer

    return why_not(way) if way else ""


def program_for(way: str) -> tuple[str | Path, ...]:
    """The agent, as it can be tried here; empty: it can't."""
    reason = refusal(way)
    if not reason:
        return (PROGRAM,)
    return (sys.executable, HERE / "despite.py") if "FIONREAD" in reason else ()


def of_go(arguments: argparse.Namespace) -> int:
    """The same by Go's clients."""
    kill, wrong = arguments.kill, []
    builds = {1: [go_client.build], 2: [go_client.build_http2]}.get(
        arguments.http, [go_client.build, go_client.build_http2]
    )
    for build_one in builds:
        begun = time.monotonic()
        program = build_one(arguments.folder)
        try:
            found = go_client.torment(program, arguments.requests, seed=arguments.seed, kill=kill)
        except go_client.Wrong as error:
            print(f"torture.py: {error}", file=sys.stderr)
            return 1
        print(json.dumps({**found, "seconds": round(time.monotonic() - begun, 1)}), flush=True)
        wrong += go_client.complaints(found, kill=kill)
    for complaint in wrong:
        print(f"torture.py: {complaint}", file=sys.stderr)
    return 1 if wrong else 0


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--way", choices=(*WAYS, ""), default="tcp", help="empty: only watch")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill", action="store_true", help="kill the agent in the middle")
    parser.add_argument("--http", type=int, choices=(1, 2), default=0, help="only this version")
    parser.add_argument("--folder", type=Path, default=HERE.parents[1] / ".cache", help="for the program")
    arguments = parser.parse_args(words)
    if not program_for(arguments.way):
        print(f"torture.py: {arguments.way} is refused here: {refusal(arguments.way)}", file=sys.stderr)
        return REFUSED
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.way == "go":
        return of_go(arguments)
    programs = [build(arguments.folder)] if arguments.http != 2 else []
    if arguments.http == 2 or (arguments.way == "headers" and not arguments.http):
        programs.append(FRAMES)
    wrong = []
    for program in programs:
        begun = time.monotonic()
        requests = arguments.requests // (5 if program == FRAMES and len(programs) > 1 else 1)
        try:
            found = torment(program, arguments.way, requests, seed=arguments.seed, kill=arguments.kill)
        except Wrong as error:
            print(f"torture.py: {error}", file=sys.stderr)
            return 1
        wrong += complaints(found, arguments.way, kill=arguments.kill)
        print(json.dumps({**found, "seconds": round(time.monotonic() - begun, 1)}), flush=True)
    for complaint in wrong:
        print(f"torture.py: {complaint}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
