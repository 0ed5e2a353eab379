"""A short score, inside the guest: real servers, requests of a known truth, and what the agent told of them.

In: the folder of the run, with Go's programs in it. Out: `result.json` there, and on standard output a line a step.
Every span is held against the truth one to one; the counts of the metrics too, also of the time in which the agent was
stopped and its ring overflowed. Then Go's clients, with `--propagate go`, if that is asked for: such an agent is
compiled for itself.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "e2e"), str(TESTS / "score"), str(TESTS / "torture")]

import go_client  # noqa: E402 - found by the line above
import servers  # noqa: E402
import shapes  # noqa: E402
import torture  # noqa: E402
from agent import PROGRAM, Agent  # noqa: E402
from cells import Cell  # noqa: E402
from certificates import SHARED  # noqa: E402
from comparison import compare, wrong_counts  # noqa: E402
from generator import Caller, Made, Place, request_bytes  # noqa: E402
from ports import free_port  # noqa: E402
from servers import FRONT, SERVERS, Running  # noqa: E402
from watch import LOST, Counts, counted  # noqa: E402

SPLIT, STOPPED = 3, 151  # requests of these shapes, for each server
RELAYED = 40  # requests by each of Go's clients
RING = "128KiB"  # holds 330 exchanges: less than come while the agent is stopped
SETTLE_WITHIN = 60.0

_begun = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - _begun:5.0f} s  {text}", flush=True)


@dataclass(frozen=True)
class Row:
    """A watched server. nginx is a client as well: what it does not answer by itself, it asks of one behind it."""

    name: str
    running: Running
    behind: Running | None = None

    def caller(self, shape: str) -> Caller:
        behind = self.behind.port if self.behind else None
        place = Place(
            self.running.server.transport, self.running.address, self.running.port, own="/b/3/", behind=behind
        )
        return Caller(place, f"{self.name}.{shape}", 0.0, Pipe()[0])  # nobody is there to take orders


def start(folder: Path) -> list[Row]:
    """Each in its own folder; Go's is compiled outside, since here that would take minutes."""
    known = {server.name: server for server in SERVERS}
    os.environ[SHARED] = str(folder)
    go, go_tls = (
        replace(known[name], command=(str(folder / "go-server"), *known[name].command[1:]), build=(), needs=())
        for name in ("go", "go-tls")
    )

    def launch(server: servers.Server, name: str, **words: int) -> Running:
        return servers.wait_up(servers.launch(server, Path("/tmp/score") / name, **words))

    behind = launch(go, "behind")
    return [
        Row("nginx", launch(FRONT, "nginx", node=behind.port), behind),
        Row("python", launch(known["http-server"], "python")),
        Row("go", launch(go, "go")),
        Row("go-tls", launch(go_tls, "go-tls")),
    ]


def split(caller: Caller) -> None:
    """Every byte of a request in a segment of its own."""
    wire = caller.connect()
    for number in range(SPLIT):
        plan = caller.plan("POST", size=number, body=b"y" * number)
        begun = wire.send(*(bytes((byte,)) for byte in request_bytes(plan)))
        caller.note(plan, wire, begun, wire.response(plan.method))
    wire.close()


def stopped(caller: Caller) -> None:
    """While nobody reads the ring."""
    caller.ask_all([caller.plan(size=size) for size in (3, 40) * (STOPPED // 2)])


# programs of go_client, and their clients; of HTTP/2 the agent knows x86-64's registers
RELAYS = [("odd-go", go_client.HTTP1)]
if platform.machine() == "x86_64":
    RELAYS.append(("odd-http2", go_client.HTTP2))
SECOND_TRY = "trying again"  # the verifier refuses what such kernels are known to take
PLAYED: dict[str, Callable[[Caller], None]] = {
    "keep-alive": shapes.keep_alive,
    "splits": split,
    "pipelined": shapes.pipelined,
    "errors": shapes.errors,
}


def drive(shape: str, play: Callable[[Caller], None], rows: list[Row]) -> list[Made]:
    made = []
    for row in rows:
        caller = row.caller(shape)
        play(caller)
        made += caller.made
    say(f"{shape}: {len(made)} requests")
    return made


def check() -> dict[str, object]:
    done = subprocess.run([PROGRAM, "check", "--json"], capture_output=True, text=True, check=False)
    return dict(json.loads(done.stdout)) if done.stdout else {"ok": False, "checks": [], "said": done.stderr}


def settle(page: int, due: int) -> tuple[Counts, dict[str, int]]:
    """What was counted and lost, once all is, or late."""
    end = time.monotonic() + SETTLE_WITHIN
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{page}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        counts = counted(text)
        if counts.total() >= due or time.monotonic() > end:
            return counts, {name: int(count) for name, count in LOST.findall(text) if int(count)}
        time.sleep(1)


def score(folder: Path, propagate: bool) -> dict[str, object]:
    found = check()
    say(f"autoinstr check: {'ok' if found['ok'] else f'FAILED {json.dumps(found)}'}")
    rows, page = start(folder), free_port()
    stack = ExitStack()
    relays = go_client.Relays([(folder / name, clients) for name, clients in RELAYS if propagate], stack)
    flags = ("--port", ",".join(str(row.running.port) for row in rows), "--ring-size", RING, "--prometheus-port", page)
    flags += ("--log-level", "debug")
    agent = Agent(*flags, *(relays.flags if propagate else ()), exports=("console", "prometheus")).wait_ready()
    say(f"agent ready after {agent.ready_after:.0f} s")
    made = [one for shape, play in PLAYED.items() for one in drive(shape, play, rows)]
    settle(page, len(made))
    os.kill(agent.pid, signal.SIGSTOP)
    late = drive("stopped", stopped, rows)
    os.kill(agent.pid, signal.SIGCONT)
    counts, lost = settle(page, len(made) + len(late))
    relays.ask(RELAYED)
    spans = agent.stop()
    # a span may be missing when the ring was full, a count may not
    spared = [replace(one, expected=replace(one.expected, optional=True)) for one in late]
    cell = compare(
        Cell("all", "server", "http", "all"), [*made, *spared], [one for one in spans if not relays.told(one)], counts
    )
    complaints = [] if cell.right else cell.complaints
    complaints += wrong_counts([one.expected for one in (*made, *late)], counts)
    if not lost.get("ring_full"):
        complaints.append("the ring was meant to overflow, and did not")
    complaints += [line for line in agent.stderr.splitlines() if SECOND_TRY in line]
    unlike = relays.complaints([one for one in spans if relays.told(one)])
    if propagate:
        say(f"--propagate go: {len(relays.brought)} requests, {'all right' if not unlike else 'WRONG'}")
    complaints += unlike
    stack.close()
    for row in rows:
        for running in (row.running, row.behind):
            if running:
                running.stop()
    say(f"{cell.requests} requests, {'all right' if not complaints else 'WRONG'}, lost: {lost}")
    return {
        "release": platform.release(),
        "check": found,
        "cell": cell.as_json(),
        "counted": counts.total(),
        "complaints": complaints,
        "lost": lost,
        "ready_after": agent.ready_after,
        "stderr": agent.stderr,
    }


def torment(folder: Path, requests: int, wanted: Sequence[str]) -> dict[str, object]:
    """Odd requests by those ways to propagate that this kernel does not refuse."""
    os.environ[SHARED] = str(folder)
    found, complaints = check(), []
    ways: dict[str, object] = {}
    for way in wanted:
        if reason := torture.refusal(way):
            ways[way] = f"refused: {reason}"
        else:
            try:
                if way == "go":
                    for name, program in (("go", "odd-go"), ("go, HTTP/2", "odd-http2")):
                        ways[name] = counts = go_client.torment(folder / program, requests)
                        complaints += go_client.complaints(counts)
                        say(f"{name}: {counts}")
                    continue
                ways[way] = counts = torture.torment(folder / "odd", way, requests)
                complaints += torture.complaints(counts, way)
                if way == "headers":
                    ways["headers, HTTP/2"] = counts = torture.torment(torture.FRAMES, way, requests)
                    complaints += torture.complaints(counts, way)
            except (torture.Wrong, go_client.Wrong, AssertionError) as error:
                complaints.append(f"{way}: {error}")
        say(f"{way}: {ways.get(way, 'WRONG')}")
    return {"release": platform.release(), "check": found, "torture": ways, "complaints": complaints}


if __name__ == "__main__":
    place, what, words = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if what == "torture":
        result = torment(place, int(words[0]), words[1:] or torture.WAYS)
    else:
        result = score(place, what == "propagate")
    (place / "result.json").write_text(json.dumps(result, indent=1))
