"""The short score, inside the guest: real servers, requests of a known truth, and what the agent told of them.

In: the folder of the run, with Go's server in it. Out: `result.json` there, and on standard output a line a step.
Every span is held against the truth one to one; the counts of the metrics too, also of the time in which the agent was
stopped and its ring overflowed.
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

import load  # noqa: E402
import servers  # noqa: E402
from agent import PROGRAM, Agent  # noqa: E402
from servers import NGINX, SERVERS, Running  # noqa: E402
from truth import Expected, compare  # noqa: E402

CONNECTIONS = 2
KEPT, SPLIT, PIPELINED, STOPPED = 61, 3, 29, 151  # requests of each shape, for each server
RING = "128KiB"  # holds 330 exchanges: less than come while the agent is stopped
STATUSES = (200, 204, 404, 503)  # what nginx answers by itself without closing the connection
COUNT = re.compile(r"^http_server_request_duration_seconds_count\{(.*)\} ([\d.]+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
LOST = re.compile(r'autoinstr_lost_total\{loss="(\w+)"\} ([\d.]+)')
SETTLE_WITHIN = 60.0

_begun = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - _begun:5.0f} s  {text}", flush=True)


@dataclass(frozen=True)
class Target:
    service: str  # as the agent should name it
    running: Running
    prefix: str = ""

    def path(self, shape: str, number: int) -> str:
        status = STATUSES[number % len(STATUSES)]
        return f"{self.prefix}/s/{status}/b/{number}/{shape}-{self.running.server.name}-{number}"

    def paths(self, shape: str, count: int) -> list[str]:
        return [self.path(shape, number) for number in range(count)]


def start(folder: Path) -> list[Target]:
    """Each in its own folder; Go's is compiled outside, since here that would take minutes."""
    known = {server.name: server for server in SERVERS}
    go = replace(known["go"], command=(str(folder / "go-server"), "{port}"), build=(), needs=())
    words = {"node": 9, "gunicorn-unix": folder}  # nobody asks for what is behind nginx
    targets = [
        Target("nginx", servers.launch(NGINX, Path("/tmp/score/nginx"), **words), "/return"),
        Target("threading_http", servers.launch(known["http-server"], Path("/tmp/score/python"))),
        Target("go-server", servers.launch(go, Path("/tmp/score/go"))),
    ]
    for target in targets:
        servers.wait_up(target.running)
    return targets


def kept(target: Target) -> list[Expected]:
    """Requests over kept connections; those that read bodies get bodies and chunks in both directions."""
    work = load.plans("kept-" + target.running.server.name, KEPT)
    if target.prefix:
        work = [load.Plan(path) for path in target.paths("kept", KEPT)]
    return load.run(lambda: servers.connect(target.running), work, at_once=CONNECTIONS)


def split(target: Target) -> list[Expected]:
    """Every byte of a request in a segment of its own."""
    told = []
    with servers.connect(target.running) as sock:
        stream = sock.makefile("rb")
        for path in target.paths("split", SPLIT):
            for byte in request(path):
                sock.sendall(bytes((byte,)))
            told.append(response(stream, path))
    return told


def pipelined(target: Target) -> list[Expected]:
    """All requests at once, cut where a segment ends."""
    paths = target.paths("pipelined", PIPELINED)
    with servers.connect(target.running) as sock:
        sock.sendall(b"".join(map(request, paths)))
        stream = sock.makefile("rb")
        return [response(stream, path) for path in paths]


def stopped(target: Target) -> list[Expected]:
    """While nobody reads the ring: a span may be missing, a count may not."""
    work = [load.Plan(path) for path in target.paths("stopped", STOPPED)]
    made = load.run(lambda: servers.connect(target.running), work, at_once=CONNECTIONS)
    return [replace(expected, optional=True) for expected in made]


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: score.test\r\nUser-Agent: {'x' * (len(path) % 7)}\r\n\r\n".encode()


def response(stream: socket.SocketIO, path: str) -> Expected:
    status = int(stream.readline().split()[1])
    size = 0
    while line := stream.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            size = int(value)
    read = len(stream.read(size))
    assert read == size, f"{path}: {read} of {size} bytes came"
    return Expected(path, status=status, response_size=size)


Shape = Callable[[Target], list[Expected]]
SHAPES: dict[str, Shape] = {"keep-alive": kept, "splits": split, "pipelined": pipelined}


def drive(shape: str, play: Shape, targets: list[Target]) -> list[Expected]:
    truth = [replace(told, server_port=target.running.port) for target in targets for told in play(target)]
    say(f"{shape}: {len(truth)} requests")
    return truth


Counts = Counter[tuple[str, str, str]]  # by service, method and status


def metrics(port: int) -> tuple[Counts, dict[str, int]]:
    """Requests counted; losses by name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    counts: Counts = Counter()
    for labels, count in COUNT.findall(text):
        of = dict(LABEL.findall(labels))
        counts[of["job"], of["http_request_method"], of.get("http_response_status_code", "")] += int(float(count))
    return counts, {name: int(float(lost)) for name, lost in LOST.findall(text) if float(lost)}


def check() -> dict[str, object]:
    done = subprocess.run([PROGRAM, "check", "--json"], capture_output=True, text=True, check=False)
    return dict(json.loads(done.stdout)) if done.stdout else {"ok": False, "checks": [], "said": done.stderr}


def score(folder: Path) -> dict[str, object]:
    found = check()
    say(f"autoinstr check: {'ok' if found['ok'] else 'FAILED'}")
    targets = start(folder)
    ports = ",".join(str(target.running.port) for target in targets)
    exposed = servers.free_port()
    agent = Agent(
        *("--port", ports, "--ring-size", RING, "--prometheus-port", exposed), exports=("console", "prometheus")
    ).wait_ready()
    say(f"agent ready after {agent.ready_after:.0f} s")
    truth = [told for shape, play in SHAPES.items() for told in drive(shape, play, targets)]
    agent.wait_for(lambda spans: len(spans) >= len(truth), SETTLE_WITHIN)  # the ring is empty; what lacks is said below
    os.kill(agent.pid, signal.SIGSTOP)
    truth += drive("kill -STOP", stopped, targets)
    os.kill(agent.pid, signal.SIGCONT)
    services = {target.running.port: target.service for target in targets}
    wanted = Counter((services[told.server_port], told.method, str(told.status)) for told in truth)
    end = time.monotonic() + SETTLE_WITHIN
    while (told := metrics(exposed))[0] != wanted and time.monotonic() < end:
        time.sleep(1)
    counts, losses = told
    complaints = compare(truth, agent.stop())
    complaints += [
        f"counted {counts[kind]} of {wanted[kind]}: {' '.join(kind)}"
        for kind in wanted | counts
        if counts[kind] != wanted[kind]
    ]
    if not losses.get("ring_full"):
        complaints.append("the ring was meant to overflow, and did not")
    for target in targets:
        target.running.stop()
    say(f"{len(truth)} requests, {len(complaints)} complaints, lost: {losses}")
    return {
        "release": platform.release(),
        "machine": platform.machine(),
        "check": found,
        "requests": len(truth),
        "counted": sum(counts.values()),
        "complaints": complaints,
        "losses": losses,
        "ready_after": agent.ready_after,
        "stderr": agent.stderr,
    }


if __name__ == "__main__":
    place = Path(sys.argv[1])
    (place / "result.json").write_text(json.dumps(score(place), indent=1))
