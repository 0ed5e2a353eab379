"""Real servers in many languages under one agent: every request is told as client and server log say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import load
import pytest
import servers
from agent import Agent
from servers import NGINX, SERVERS, Running
from truth import CLIENT, Expected, compare, path_of

COUNT = 149  # a prime number of requests for each
FILE_SIZES = (0, 1, 5000, 1_000_000)
NGINX_WAYS = ("return", "static", "proxy", "unix")


@dataclass
class Run:
    """What each server was asked (as it should be told), and what the agent told of all."""

    truth: dict[str, list[Expected]] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)
    spans: list[dict[str, Any]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def told_of(self, name: str) -> list[dict[str, Any]]:
        return [span for span in self.spans if path_of(span).rpartition("/")[2].rpartition("-")[0] == name]


def start_all(run: Run, folder: Path) -> None:
    for server in (*SERVERS, NGINX):
        if lacking := servers.missing(server):
            run.skipped[server.name] = f"{server.name} needs {', '.join(lacking)}"
            continue
        words: dict[str, object] = {}
        if server is NGINX:
            node = run.running.get("node")
            words = {"node": node.port if node else 9, "gunicorn-unix": run.running["gunicorn-unix"].folder}
            (folder / server.name).mkdir()
            for size in FILE_SIZES:
                (folder / server.name / f"file-{size}").write_bytes(b"f" * size)
        run.running[server.name] = servers.launch(server, folder / server.name, **words)
    for running in run.running.values():
        servers.wait_up(running)


def watching(run: Run) -> list[str]:
    """Flags: by port, and by command line what has none."""
    ports = ",".join(str(running.port) for running in run.running.values() if not running.server.unix)
    return ["--port", ports, "--cmd", "*gunicorn*unix:*"]


def drive(running: Running) -> list[Expected]:
    """Load on one server, and what should be told of it."""
    server = running.server
    work = load.plans(server.name, COUNT, chunked_up=server.chunked_up, chunked_down=server.chunked_down)
    truth = load.run(lambda: servers.connect(running), work)
    port = None if server.unix else running.port
    return [replace(expected, server_port=port) for expected in truth]


def drive_nginx(run: Run, way: str) -> list[Expected]:
    """What nginx is asked in one of its ways, and what it asks of others for that."""
    nginx, name = run.running["nginx"], f"nginx-{way}"
    work = load.plans(name, COUNT, prefix=f"/{way}")
    if way == "return":
        work = [
            replace(p, path=f"/return/s/{(200, 204, 404, 500, 503)[n % 5]}/{name}-{n}", delay=0)
            for n, p in enumerate(work)
        ]
    if way == "static":
        paths = (f"/static/b/{FILE_SIZES[n % len(FILE_SIZES)]}/{name}-{n}" for n in range(COUNT))
        work = [load.Plan(path, "HEAD" if n % 7 == 0 else "GET") for n, path in enumerate(paths)]
    truth = [replace(told, server_port=nginx.port) for told in load.run(lambda: servers.connect(nginx), work)]
    if way == "return":
        # It answers before it reads a body: how much was read until then is a matter of timing.
        return [replace(told, request_size=None) if told.request_size else told for told in truth]
    if way == "static":
        return truth
    behind = run.running["node" if way == "proxy" else "gunicorn-unix"]
    port = None if behind.server.unix else behind.port
    asked = [replace(t, path=t.path.removeprefix(f"/{way}"), server_port=port, peer_port=None) for t in truth]
    return [*truth, *asked, *(replace(expected, kind=CLIENT, peer_port=port) for expected in asked)]


@pytest.fixture(scope="module")
def run(module_agent: Callable[..., Agent], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = Run()
    try:
        start_all(run, tmp_path_factory.mktemp("servers"))
        agent = module_agent(*watching(run))
        nginx = run.running.pop("nginx", None)
        with ThreadPoolExecutor(3) as pool:
            run.truth = dict(zip(run.running, pool.map(drive, run.running.values()), strict=True))
            if nginx:
                run.running["nginx"] = nginx
                ways = [way for way in NGINX_WAYS if way != "proxy" or "node" in run.running]
                truths = pool.map(lambda way: drive_nginx(run, way), ways)
                run.truth |= dict(zip((f"nginx-{way}" for way in ways), truths, strict=True))
        run.spans = agent.stop(check=False)
        yield run
    finally:
        for running in run.running.values():
            running.stop()


@pytest.mark.parametrize("name", [*(server.name for server in SERVERS), *(f"nginx-{way}" for way in NGINX_WAYS)])
def test_told_exactly(run: Run, name: str) -> None:
    program = name if name in run.skipped else "nginx"
    if name not in run.truth:
        pytest.skip(run.skipped.get(program, "nginx-proxy needs node"))
    complaints = compare(run.truth[name], run.told_of(name))
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("name", [server.name for server in (*SERVERS, NGINX) if server.log])
def test_truth_is_what_the_server_logged(run: Run, name: str) -> None:
    if name in run.skipped:
        pytest.skip(run.skipped[name])
    running = run.running[name]
    asked = [t for truths in run.truth.values() for t in truths if t.kind != CLIENT]
    own = [t for t in asked if (t.server_port or None) == (None if running.server.unix else running.port)]
    assert running.server.log
    assert running.server.log(running.folder) == Counter((t.method, t.path, t.status) for t in own)


def test_nothing_invented(run: Run) -> None:
    known = {span["spanId"] for name in run.truth for span in run.told_of(name)}
    invented = [span for span in run.spans if span["spanId"] not in known]
    assert not invented, "\n".join(f"{path_of(span)} {span['attributes']}" for span in invented)


def test_services_are_named_as_a_person_would(run: Run) -> None:
    names = {name: {str(span["resource"]["service.name"]) for span in run.told_of(name)} for name in run.truth}
    assert not {"python", "python3", "python3.11", "java", "node"} & set().union(*names.values()), names
