"""Requests of Go's client through `--propagate go`. Root.

`torment`: of odd shapes, every byte held against what arrives. `odd_go` writes and reads them, in two processes, of
which the agent watches the one that writes; and `odd_http2` those of HTTP/2, whose header blocks are compared as they
are decoded. `kill`: the agent is killed in the middle, and all goes on. `Relays`: plain ones, each made for one that is
served, and whether what they bring is the span that is told of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from agent import Agent
from certificates import certificates
from truth import CLIENT, kind_of, path_of

HERE = Path(__file__).resolve().parent
FLAGS = ("--propagate", "go", "--sampler", "always_off")
WITHIN = 600.0  # seconds for the program to end once it has told
AT_ONCE = 4
HTTP1 = ("plain", "tls")  # clients of odd_go, by the names by which they are asked to relay
HTTP2 = ("std", "x", "x-plain", "rpc", "rpc-plain")  # of odd_http2; with `alone` only the first
MOSTLY = ("rpc", "rpc-plain")  # it may not be known yet who makes a call when it is written


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


class Relays:
    """Programs that ask a server what they are asked, by each of their clients. Paths are /CLIENT/NUMBER."""

    def __init__(
        self, programs: Sequence[tuple[Path, Sequence[str]]], stack: ExitStack, *, server: Path | None = None
    ) -> None:
        self.running = [(Odd(program, stack, "relay", server=server), clients) for program, clients in programs]
        self.brought: dict[str, str] = {}  # path -> the field that came to the server; empty: none

    @property
    def flags(self) -> Sequence[object]:
        """For an agent that is to watch them."""
        return [*(word for odd, _ in self.running for word in ("--pid", odd.asking.pid)), "--propagate", "go"]

    def ask(self, count: int) -> None:
        """As many by each client, GET and POST, some at the same time."""
        for odd, clients in self.running:
            paths = [f"/{client}/{number}" for number in range(count) for client in clients]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(self._ask, [odd] * AT_ONCE, [paths[n::AT_ONCE] for n in range(AT_ONCE)]))

    def _ask(self, odd: Odd, paths: Sequence[str]) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{odd.said}", timeout=60) as client:
            for number, path in enumerate(paths):
                body = {"content": b"b" * 5000} if number % 3 else {}
                self.brought[path] = client.request("POST" if body else "GET", path, **body).text

    def told(self, span: dict[str, Any]) -> bool:
        """It is one of theirs."""
        return span["resource"]["process.pid"] in [odd.asking.pid for odd, _ in self.running]

    def complaints(self, spans: Sequence[dict[str, Any]]) -> list[str]:
        """Each call is told once, below the request that it was made for, and its field is its span's."""
        calls = [(path_of(span), span) for span in spans if kind_of(span) == CLIENT]
        served = [(path_of(span), span) for span in spans if kind_of(span) != CLIENT]
        wrong = [
            f"{who} are not once each what was asked: {len(told)}, not {len(self.brought)}"
            for who, told in (("calls", calls), ("requests", served))
            if sorted(path for path, _ in told) != sorted(self.brought)
        ]
        asked_for = {path: (span["traceId"], span["spanId"]) for path, span in served}
        for path, span in calls:
            field, own = self.brought.get(path), f"00-{span['traceId']}-{span['spanId']}-01"
            if field != own and (field or path.split("/")[1] not in MOSTLY):
                wrong.append(f"{path} brought {field!r}, not {own}")
            parent = span["traceId"], span["parentSpanId"]
            if parent != asked_for.get(path):
                wrong.append(f"{path} was called for {parent}, not {asked_for.get(path)}")
        without = sum(not field for field in self.brought.values())
        if without > 0.5 * len(self.brought):
            wrong.append(f"{without} of {len(self.brought)} brought no field")
        return wrong
