"""Requests of odd shapes by Go's client through `--propagate go`, every byte held against what arrives. Root.

`odd_go` writes and reads them, in two processes, of which the agent watches the one that writes; and `odd_http2` those
of HTTP/2, whose header blocks are compared as they are decoded. `kill`: the agent is killed in the middle, and all goes
on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from agent import Agent
from certificates import certificates

HERE = Path(__file__).resolve().parent
FLAGS = ("--propagate", "go", "--sampler", "always_off")
WITHIN = 600.0  # seconds for the program to end once it has told


class Wrong(Exception):  # noqa: N818 - it is what it is
    """A byte was not right, or something hung."""


def build(folder: Path, *flags: str, toolchain: str = "", architecture: str = "") -> Path:
    """The program, by another toolchain or with other flags if that is said."""
    return _build(folder / "odd-go", "odd_go", flags, toolchain, architecture)


def build_http2(folder: Path, *flags: str, toolchain: str = "", architecture: str = "", alone: bool = False) -> Path:
    """The same for HTTP/2. `alone`: with net/http's client only, and without a server, as old toolchains can."""
    if alone:
        flags = (*flags, "-tags=standard", "-modfile=standard.mod")
    return _build(folder / ("odd-standard" if alone else "odd-http2"), "odd_http2", flags, toolchain, architecture)


def _build(program: Path, of: str, flags: Sequence[str], toolchain: str, architecture: str) -> Path:
    variables = {"CGO_ENABLED": "0", "GOENV": "off"}
    variables |= {"GOTOOLCHAIN": f"go{toolchain}"} if toolchain else {}
    variables |= {"GOARCH": architecture} if architecture else {}
    command = ["go", "build", *flags, "-o", program, "."]
    subprocess.run(command, cwd=HERE / of, check=True, env=os.environ | variables)
    return program


class Odd:
    """The program, asking, or relaying what it is asked; and the server that it asks: `server`, or itself."""

    def __init__(self, program: Path, stack: ExitStack, *words: object, server: Path | None = None) -> None:
        found = certificates()
        serving = [server or program, "serve", found.certificate, found.key]
        self.server = subprocess.Popen(serving, stdout=subprocess.PIPE, text=True)
        stack.callback(end, self.server)
        assert self.server.stdout
        ports = self.server.stdout.readline().split()
        command = [str(program), *map(str, words), *ports]
        self.asking = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(end, self.asking)
        assert self.asking.stdout
        self.said = self.asking.stdout.readline().strip()  # "ready", or a port
        assert self.said, "it did not start"


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def torment(
    program: Path, requests: int, *, seed: int = 1, kill: bool = False, server: Path | None = None
) -> dict[str, int]:
    """What it has counted, with the agent on its requests. Wrong, or AssertionError."""
    with ExitStack() as stack:
        odd = Odd(program, stack, "ask", requests, seed, server=server)
        agent = Agent("--pid", odd.asking.pid, *FLAGS, exports=["none"])
        stack.callback(agent.kill)
        agent.wait_ready()
        assert odd.asking.stdin
        assert odd.asking.stdout
        odd.asking.stdin.write("go\n")
        odd.asking.stdin.flush()
        if kill:
            time.sleep(0.5)  # in the middle of it
            assert odd.asking.poll() is None, "it was over before the agent was killed"
            os.kill(agent.pid, signal.SIGKILL)
        words = odd.asking.stdout.readline()
        if odd.asking.wait(WITHIN) or not words.startswith("{"):
            raise Wrong(f"exit status {odd.asking.returncode}: {words}")
        if not kill:
            agent.stop()
        return dict(json.loads(words))


def complaints(found: dict[str, int], *, kill: bool = False) -> Sequence[str]:
    """What the program can't know to be wrong by itself."""
    wrong = []
    if not kill and found["plain_inserted"] < 0.99 * found["plain"]:
        wrong.append(f"of {found['plain']} requests {found['plain_inserted']} got the field")
    if found["failed"] > 0.05 * found["requests"]:
        wrong.append(f"{found['failed']} of {found['requests']} requests failed")
    return wrong
