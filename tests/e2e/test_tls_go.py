"""HTTPS of Go programs, however they were linked: servers and clients, and what must not be told of HTTP/2."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import clients
import load
import pytest
import servers
from agent import Agent
from certificates import certificates, trusting
from clients import CLIENTS, Client
from load import Connection, Plan
from servers import SERVERS, Running
from truth import CLIENT, Expected, compare

StartAgent = Callable[..., Agent]
GO = servers.by_name("go-tls", SERVERS)
LINKED = {
    "stripped": ("-ldflags=-s -w",),
    "pie": ("-buildmode=pie", "-ldflags=-s -w"),
    "pie-by-gcc": ("-buildmode=pie", "-ldflags=-linkmode=external -s -w"),
    "unoptimised": ("-gcflags=all=-N -l",),
}
COUNT = 331  # a prime number of requests
TLS_FAILED = 35  # of curl
LARGE = 30_000_000  # more than fits between two ends
HTTP1, HTTP2 = "http2client=0", "http2client=1"  # GODEBUG

pytestmark = pytest.mark.skipif(not shutil.which("go"), reason="needs go")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    with ExitStack() as stack:

        def run(
            *flags: str,
            source: str = "go_server.go",
            program: Path | None = None,
            environment: dict[str, str] | None = None,
        ) -> Running:
            build = ("go", "build", *flags, "-o", "{folder}/go-server", f"{{here}}/{source}")
            server = replace(GO, build=build)
            if program:
                server = replace(GO, build=(), command=(str(program), *GO.command[1:]))
            running = servers.launch(server, tmp_path / "server", environment=environment or {})
            stack.callback(running.stop)
            return servers.wait_up(running)

        yield run


@pytest.mark.parametrize("linked", LINKED)
def test_however_it_was_linked(agent: StartAgent, start: Callable[..., Running], linked: str) -> None:
    if "external" in str(LINKED[linked]) and not shutil.which("gcc"):
        pytest.skip("needs gcc")
    running = start(*LINKED[linked])
    started = agent("--pid", running.pid)
    truth = load.run(lambda: servers.connect(running), load.plans("go", COUNT), at_once=64)
    complaints = compare([replace(expected, server_port=running.port) for expected in truth], started.stop())
    assert not complaints, "\n".join(complaints[:20])


def go_client(debug: str) -> Client:
    client = servers.by_name("go", CLIENTS)
    environment = [f"{name}={value}" for name, value in {**trusting(), "GODEBUG": debug}.items()]
    return replace(client, command=("env", *environment, *client.command))


def plans(port: int) -> tuple[str, list[Expected]]:
    """Lines for the client, and what should be told of them: by the client and by the server."""
    lines, truth = [], []
    for plan in load.plans("client", COUNT):
        kind = "chunked" if plan.chunked else "length"
        lines.append(f"{plan.method} https://127.0.0.1:{port}{plan.path} {len(plan.body)} {kind}\n")
        wish = dict(zip(*[iter(plan.path.split("/")[1:-1])] * 2, strict=True))
        empty = plan.method == "HEAD" or wish["s"] in ("204", "304")
        expected = Expected(
            plan.path,
            method=plan.method,
            status=int(wish["s"]),
            request_size=len(plan.body),
            response_size=0 if empty else int(wish["b"]),
            server_port=port,
            server_address="127.0.0.1",
            delay=plan.delay,
        )
        truth += [expected, replace(expected, kind=CLIENT, peer_port=port)]
    return "".join(lines), truth


@pytest.mark.parametrize("debug", [HTTP1, HTTP2])
def test_client(agent: StartAgent, start: Callable[..., Running], tmp_path: Path, debug: str) -> None:
    running = start()
    lines, truth = plans(running.port)
    client = clients.Running(go_client(debug), tmp_path / "client", lines)
    try:
        client.wait_up()
        started = agent("--pid", running.pid, "--pid", client.process.pid)
        client.run()
    finally:
        client.kill()
    spans = started.stop()
    version = "1.1" if debug == HTTP1 else "2"
    complaints = compare([replace(one, version=version) for one in truth], spans)
    assert not complaints, "\n".join(complaints[:20])
    assert {span["attributes"]["url.scheme"] for span in spans} == {"https"}


def test_first_byte_in_a_record_of_its_own(agent: StartAgent, start: Callable[..., Running]) -> None:
    """As Go does with TLS 1.0, in two writes within a Write; what is larger than a record takes several more."""
    running = start(environment={"GODEBUG": "tls10server=1"})
    started = agent("--pid", running.pid)
    truth = []
    for size in (0, 1, 2, 40_000):
        path = f"/s/200/d/0/b/{size}/c/0/parted-{size}"
        command = [
            "curl",
            "-sS",
            "-k",
            "--http1.1",
            "--tls-max",
            "1.0",
            "--ciphers",
            "ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0",
        ]
        command += ["-w", "%{json}", "-o", "/dev/null", f"https://127.0.0.1:{running.port}{path}"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode == TLS_FAILED:
            pytest.skip(f"needs a Go and a curl with TLS 1.0: {done.stderr}")
        assert not done.returncode, done.stderr
        truth.append(Expected(path, response_size=size, peer_port=json.loads(done.stdout)["local_port"]))
    complaints = compare(truth, started.stop())
    assert not complaints, "\n".join(complaints)


def test_http_2_between_http_1(agent: StartAgent, start: Callable[..., Running]) -> None:
    running = start()
    started = agent("--pid", running.pid)
    url, truth = f"https://127.0.0.1:{running.port}", []
    for number in range(5):
        for version in ("--http2", "--http1.1"):
            path = f"/s/200/d/0/b/{number}/c/0/{version.strip('-')}-{number}"
            command = ["curl", "-sS", version, "--cacert", certificates().authority, "-w", "%{json}", "-o", "/dev/null"]
            said = json.loads(subprocess.run([*command, url + path], check=True, capture_output=True).stdout)
            assert said["http_version"] == version.removeprefix("--http")
            told = "2" if version == "--http2" else "1.1"
            truth.append(Expected(path, response_size=number, peer_port=said["local_port"], version=told))
    complaints = compare(truth, started.stop())
    assert not complaints, "\n".join(complaints)


def test_pipelined_on_an_older_connection(agent: StartAgent, start: Callable[..., Running]) -> None:
    """The server waits in Read since before the agent's time; the first request has others behind it."""
    running = start()
    with servers.connect(running) as sock:
        ask(sock, "/s/200/b/1/before")
        assert receive(sock, 1)
        started = agent("--pid", running.pid)
        port = sock.getsockname()[1]
        paths = [f"/s/200/b/{n}/older-{n}" for n in range(1, 8)]
        for _ in range(2):
            sock.sendall(b"".join(request(path) for path in paths))
            for n in range(1, 8):
                assert receive(sock, n)
            paths = [path + "-again" for path in paths]
    told = [f"/s/200/b/{n}/older-{n}{again}" for again in ("", "-again") for n in range(1, 8)]
    truth = [
        Expected(path, response_size=int(path.split("/")[4]), server_port=running.port, peer_port=port) for path in told
    ]
    complaints = compare(truth, started.stop())
    assert not complaints, "\n".join(complaints)


def test_stacks_that_move(agent: StartAgent, start: Callable[..., Running]) -> None:
    running = start(source="go_moving.go")
    started = agent("--pid", running.pid)
    plans = [Plan(f"/moving-{number}/{'x' * (number % 1500)}") for number in range(3001)]
    truth = load.run(lambda: servers.connect(running), plans, at_once=16)
    complaints = compare(truth, started.stop())
    assert not complaints, "\n".join(complaints[:20])


@pytest.mark.parametrize("version", ["1.17.13", "1.18.10"])
def test_older_go(agent: StartAgent, start: Callable[..., Running], tmp_path: Path, version: str) -> None:
    """Of 1.17 and 1.18 calling convention and table of functions are not those of later ones."""
    (tmp_path / "go.mod").write_text("module moving\ngo 1.17\n")
    shutil.copy(Path(servers.__file__).with_name("go_moving.go"), tmp_path)
    environment = {**os.environ, "GOTOOLCHAIN": f"go{version}", "GOENV": "off", "GOFLAGS": ""}
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 240}
    built = subprocess.run(["go", "build", "-o", "moving", "."], check=False, **options)
    if built.returncode:
        pytest.skip(f"needs Go {version}: {built.stderr.strip()}")
    running = start(program=tmp_path / "moving")
    started = agent("--pid", running.pid)
    truth = load.run(
        lambda: servers.connect(running), [Plan(f"/older-{number}") for number in range(COUNT)], at_once=16
    )
    complaints = compare(truth, started.stop())
    assert not complaints, "\n".join(complaints[:20])


def test_process_that_is_killed_within_a_write(agent: StartAgent, start: Callable[..., Running]) -> None:
    """The other end has its response: it was answered."""
    running = start(source="go_dying.go")
    started = agent("--pid", running.pid)
    truth = load.run(lambda: servers.connect(running), [Plan("/first-1"), Plan("/first-2"), Plan("/last")], at_once=1)
    complaints = compare(truth, started.stop())
    assert not complaints, "\n".join(complaints)


def test_large_bodies_and_a_slow_reader(agent: StartAgent, start: Callable[..., Running]) -> None:
    running = start()
    started = agent("--pid", running.pid)
    truth = []
    connection = Connection(lambda: servers.connect(running), "127.0.0.1")
    for chunked in (False, True):
        plan = Plan(f"/s/200/d/0/b/5/c/0/up-{int(chunked)}", "POST", b"u" * LARGE, chunked)
        truth.append(load.ask(connection, plan))
    port = connection.port_here()
    path = f"/s/200/d/0/b/{LARGE}/c/0/slow"
    connection.request("GET", path)
    response = connection.getresponse()
    time.sleep(1)
    assert len(response.read()) == LARGE
    truth.append(Expected(path, response_size=LARGE, peer_port=port, delay=1))
    connection.close()
    complaints = compare(truth, started.stop())
    assert not complaints, "\n".join(complaints)


def test_writes_that_began_before_the_agent_are_counted(agent: StartAgent, start: Callable[..., Running]) -> None:
    """To a client that does not read: what they write is not known."""
    running = start()
    with servers.connect(running) as sock:
        ask(sock, f"/s/200/d/0/b/{LARGE}/c/0/slow")
        assert sock.recv(1)
        started = agent("--pid", running.pid)
        got = 1
        while got < LARGE:
            got += len(sock.recv(1 << 16))
    started.stop()
    assert "lost: 1 calls of a TLS library" in started.stderr


def test_client_that_goes_away(agent: StartAgent, start: Callable[..., Running]) -> None:
    running = start()
    started = agent("--pid", running.pid)
    path = f"/s/200/d/0/b/{LARGE}/c/0/aborted"
    with servers.connect(running) as sock:
        port = sock.getsockname()[1]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ask(sock, path)
        assert sock.recv(1000)
    assert started.wait_for_path(path)
    truth = Expected(path, status=200, response_size=None, peer_port=port, errors=("ECONNRESET", "EPIPE"))
    complaints = compare([truth], started.stop())
    assert not complaints, "\n".join(complaints)


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def ask(sock: socket.socket, path: str) -> None:
    sock.sendall(request(path))


def receive(sock: socket.socket, size: int) -> bool:
    """One response with a body of this size."""
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        got += sock.recv(1)
    body = b""
    while len(body) < size:
        body += sock.recv(size - len(body))
    return got.startswith(b"HTTP/1.1 200 ")
