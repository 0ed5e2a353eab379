"""Processes that come and go, namespaces, and the agent's own beginning and end."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import load
import pytest
import servers
from agent import PROGRAM, SLOWNESS, Agent, children
from load import Plan
from otlp_receiver import OtlpReceiver
from ports import free_port
from servers import HERE, Running, Server
from truth import CLIENT, SERVER, Expected, compare, kind_of, path_of, seconds_of

from autoinstr.bpf_call import bpf, items

PLAIN = Server("plain", ("{python}", "{here}/threading_http.py", "{port}"))
COUNT = 23
MAP_GET_FD_BY_ID = 14
CURLS = 200
MEMORY = 60_000_000
TOLD_WITHIN = 3.0  # promised is about a second; the machine under test is busy

# The same program, which forgets those that ended after seconds and not after an hour.
SOON = """
import runpy, sys
from autoinstr import pipeline
from autoinstr.discover import services
services.REMEMBER, services.RETIRE_AFTER, pipeline.SCAN_EVERY = 0.5, 2.0, 0.5
open("/proc/self/comm", "w").write("autoinstr")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
COUNTED = re.compile(r"^http_(\w+)_request_duration_seconds_count\{(.*)\} (\d+)$", re.MULTILINE)
CALLS = "import sys, urllib.request\nfor n in range(3): urllib.request.urlopen(sys.argv[1] + str(n)).read()\n"

StartAgent = Callable[..., Agent]
StartServer = Callable[..., Running]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[StartServer]:
    """`serve(server)` starts one and waits until it answers."""
    with ExitStack() as stack:
        number = iter(range(100))

        def start(server: Server = PLAIN, port: int = 0) -> Running:
            running = servers.launch(server, tmp_path / f"server-{next(number)}", port)
            stack.callback(running.stop)
            return servers.wait_up(running)

        yield start


def drive(running: Running, name: str, count: int = COUNT) -> list[Expected]:
    """Some load, and the truth of it."""
    work = [Plan(f"/s/{(200, 500)[n % 2]}/b/{n}/{name}-{n}", "POST", b"b" * n) for n in range(count)]
    truth = load.run(lambda: servers.connect(running), work, at_once=2)
    return [replace(told, server_port=running.port) for told in truth]


def ask(sock: socket.socket, path: str) -> None:
    """One request on an open connection; 200 and its body must come."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    response = http.client.HTTPResponse(sock)
    response.begin()
    assert response.status == http.HTTPStatus.OK
    response.read()


def check(truth: Sequence[Expected], agent: Agent) -> None:
    complaints = compare(truth, agent.stop())
    assert not complaints, "\n".join([*complaints, agent.stderr])


def own_python(folder: Path) -> str:
    """An interpreter that no other process runs."""
    copy = folder / "own-python"
    shutil.copy(Path(sys.executable).resolve(), copy)
    return str(copy)


@pytest.mark.parametrize("selector", ["port", "exe", "cmd"])
def test_process_that_starts_later(agent: StartAgent, serve: StartServer, tmp_path: Path, selector: str) -> None:
    port = free_port()
    python = own_python(tmp_path)
    started = agent(f"--{selector}", {"port": port, "exe": python, "cmd": f"*threading_http.py {port}*"}[selector])
    command = ("env", f"PYTHONHOME={sys.base_prefix}", python, "{here}/threading_http.py", "{port}")
    running = serve(Server("later", command), port)
    check(drive(running, f"later-{selector}"), started)


ONCE = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
connection, _ = listener.accept()
connection.recv(1000)
connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\n\\r\\nonce")
"""


def test_servers_that_answer_once(agent: StartAgent) -> None:
    """They have ended before anyone looks at who listens there."""
    port = free_port()
    started = agent("--port", port)
    truth = []
    for number in range(20):
        process = subprocess.Popen([sys.executable, "-S", "-c", ONCE, str(port)])
        path = f"/once-{number}"
        with connect_when_up(port) as sock:
            ask(sock, path)
        assert process.wait(5) == 0
        truth.append(Expected(path, response_size=4, server_port=port))
    check(truth, started)


def connect_when_up(port: int) -> socket.socket:
    end = time.monotonic() + 5
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 5)
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.002)


def test_two_hundred_short_lived_clients(agent: StartAgent, serve: StartServer) -> None:
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    running = serve()
    started = agent("--exe", "*/curl")
    truth = []
    for number in range(CURLS):
        path = f"/s/200/b/3/curls-{number}"
        subprocess.run(["curl", "-sS", "-o", "/dev/null", f"http://127.0.0.1:{running.port}{path}"], check=True)
        truth.append(Expected(path, CLIENT, response_size=3, server_port=running.port))
    check(truth, started)
    assert not [line for line in started.errors if "WARNING" in line], "that they were over at once is no trouble"


def counts_on(page: int) -> dict[tuple[str, str], int]:
    """Requests by side and the process that told them."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{page}/metrics").read().decode()
    found: dict[tuple[str, str], int] = {}
    for side, labels, count in COUNTED.findall(text):
        instance = re.search(r'instance="[^"]*?(\d+)"', labels)
        assert instance, labels
        key = (side, instance[1])
        found[key] = found.get(key, 0) + int(count)
    return found


def test_those_that_ended_are_forgotten(agent: StartAgent, serve: StartServer, tmp_path: Path) -> None:
    page, running = free_port(), serve()
    script = tmp_path / "job-of-ours.py"
    script.write_text(CALLS)
    started = agent(
        *("--port", running.port, "--cmd", "*job-of-ours*", "--prometheus-port", page, "--metric-interval", "1"),
        exports=("prometheus", "console"),
        program=(sys.executable, "-c", SOON, PROGRAM),
    )
    served, forgotten, ended = 0, 0, set[str]()
    end = time.monotonic() + 30 * SLOWNESS
    while forgotten < 3:
        assert time.monotonic() < end, "they are told for ever"
        job = subprocess.Popen([sys.executable, script, f"http://127.0.0.1:{running.port}/s/200/b/3/job-"])
        assert job.wait() == 0
        served += 3
        ended.add(str(job.pid))
        deadline = time.monotonic() + 10
        while counts_on(page).get(("client", str(job.pid))) != 3:
            assert time.monotonic() < deadline, "a job's calls are told, also when it is over"
            time.sleep(0.1)
        found = counts_on(page)
        assert found["server", str(running.pid)] == served, "those of one that lives are never lost"
        assert all(count == 3 for (side, _), count in found.items() if side == "client")
        forgotten = max(forgotten, len(ended) - len(found) + 1)
    deadline = time.monotonic() + 20
    while set(counts_on(page)) != {("server", str(running.pid))}:
        assert time.monotonic() < deadline, "in the end nothing is left but the server"
        time.sleep(0.2)
    assert counts_on(page)["server", str(running.pid)] == served
    spans = started.stop()
    assert len(spans) == 2 * served
    of = [(span["kind"], str(span["resource"]["process.pid"])) for span in spans]
    assert {pid for kind, pid in of if kind == "client"} == ended
    assert {pid for kind, pid in of if kind == "server"} == {str(running.pid)}


def held_of(agent: Agent, key: int, value: int, entries: int) -> list[bytes]:
    """Keys in the map of that form which the agent holds."""
    for number in Path(f"/proc/{agent.pid}/fdinfo").iterdir():
        told = dict(re.findall(r"^(\w+):\s*(\d+)$", number.read_text(), re.MULTILINE))
        form = [int(told.get(name, 0)) for name in ("key_size", "value_size", "max_entries")]
        if form == [key, value, entries]:
            descriptor = bpf(MAP_GET_FD_BY_ID, struct.pack("<I", int(told["map_id"])))
            try:
                return [found for found, _ in items(descriptor, key, value)]
            finally:
                os.close(descriptor)
    raise LookupError("the agent has no such map")


def test_what_is_known_of_processes_goes_with_them(agent: StartAgent, serve: StartServer) -> None:
    """Else those that ended would take the place of one that lives, where there is room for a few thousand."""
    if not shutil.which("nginx"):
        pytest.skip("needs nginx")
    running = serve(replace(servers.FRONT, words={"tls": "", "node": "1"}))
    started = agent("--pid", running.pid)
    for _ in range(5):
        before = set(children(running.pid))
        running.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 20 * SLOWNESS
        while before & (now := set(children(running.pid))) or len(now) < len(before):
            assert time.monotonic() < end, "nginx has no other workers"
            time.sleep(0.05)
    known = {struct.unpack("<I", key)[0] for key in held_of(started, 4, 8, 4096)}
    assert known == {running.pid, *map(int, children(running.pid))}


def test_children_of_a_target(agent: StartAgent, serve: StartServer) -> None:
    """A shell is matched; what it starts later is watched, too."""
    port = free_port()
    command = ("sh", "-c", "{python} {here}/threading_http.py $1; exit 0", "a-shell-of-our-own", "{port}")
    started = agent("--cmd", "*a-shell-of-our-own*")
    running = serve(Server("children", command), port)
    try:
        check(drive(running, "children"), started)
    finally:
        subprocess.run(["pkill", "-P", str(running.pid)], check=False)


@pytest.mark.parametrize("by", ["port", "pid"])
def test_agent_in_a_pid_namespace_of_its_own(agent: StartAgent, by: str) -> None:
    """As in a container or sidecar: numbers there are others than the kernel's own."""
    port = free_port()
    beside = f'{sys.executable} {HERE}/threading_http.py {port} & "$@"; exit $?'
    wrapper = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", beside, "sh"]
    started = agent(f"--{by}", {"port": port, "pid": 2}[by], wrapper=wrapper)
    running = Running(PLAIN, started.process, Path("/nonexistent"), port)
    wait_for_port(port)
    check(drive(running, f"namespace-{by}"), started)


def wait_for_port(port: int) -> None:
    end = time.monotonic() + 20
    while subprocess.run(["sh", "-c", f"ss -Hltn sport = :{port} | grep -q ."], check=False).returncode:
        assert time.monotonic() < end, f"nobody listens on {port}"
        time.sleep(0.05)


def test_target_in_its_own_pid_and_mount_namespace(agent: StartAgent, serve: StartServer) -> None:
    command = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "{python}", "{here}/threading_http.py")
    running = serve(Server("contained", (*command, "{port}")))
    started = agent("--port", running.port)
    check(drive(running, "contained"), started)


def test_target_in_its_own_network_namespace(agent: StartAgent) -> None:
    """Its ports are not those of the host."""
    port = free_port()
    inside = (
        f"ip link set lo up; {sys.executable} {HERE}/threading_http.py {port} & "
        f"until ss -Hltn sport = :{port} | grep -q .; do sleep 0.05; done; echo up; read go; "
        f"for n in 0 1 2 3 4; do curl -sS http://127.0.0.1:{port}/s/200/b/2/netns-$n >/dev/null; done; "
        "echo done; read end"
    )
    command = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", inside]
    container = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert container.stdin and container.stdout
    try:
        assert container.stdout.readline() == "up\n"
        started = agent("--port", port)
        container.stdin.write("go\n")
        container.stdin.flush()
        assert container.stdout.readline() == "done\n"
        check([Expected(f"/s/200/b/2/netns-{n}", response_size=2, server_port=port) for n in range(5)], started)
    finally:
        container.kill()
        container.communicate()


def test_a_request_is_told_soon(agent: StartAgent, serve: StartServer) -> None:
    running = serve()
    started = agent("--pid", running.pid)
    for number in range(3):
        path = f"/s/200/soon-{number}"
        load.run(lambda: servers.connect(running), [Plan(path)], at_once=1)
        assert started.wait_for_path(path, TOLD_WITHIN), f"{path} was not told within {TOLD_WITHIN} s"


def test_connection_that_stays_open_is_told(agent: StartAgent, serve: StartServer) -> None:
    """Without waiting for its end: the end of the response is known from its framing."""
    running = serve()
    started = agent("--pid", running.pid)
    with servers.connect(running) as sock:
        ask(sock, "/s/200/b/5/open-0")
        assert started.wait_for_path("/s/200/b/5/open-0", TOLD_WITHIN)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_ends_at_a_signal_under_load(agent: StartAgent, serve: StartServer, sign: signal.Signals) -> None:
    """`stop` insists on status 0 in time; nothing that was asked before is missing."""
    running = serve()
    started = agent("--pid", running.pid)
    truth = drive(running, f"end-{sign.name}")
    os.kill(started.pid, sign)
    drive(running, "after", 200)
    spans = [span for span in started.stop() if "/after-" not in path_of(span)]
    assert compare(truth, spans) == []


def test_killing_the_agent_leaves_the_application_alone(agent: StartAgent, serve: StartServer) -> None:
    """Requests before, while and after: none fails. A new agent then tells everything."""
    running = serve()
    first = agent("--pid", running.pid)
    with servers.connect(running) as sock:
        for number in range(9):
            if number == 4:
                first.kill()
            ask(sock, f"/s/200/b/5/kill-{number}")
        second = agent("--pid", running.pid)
        ask(sock, "/s/200/b/5/killed-0")
    truth = [Expected("/s/200/b/5/killed-0", response_size=None), *drive(running, "killed-again")]
    check(truth, second)


def test_two_agents_at_the_same_time(agent: StartAgent, serve: StartServer) -> None:
    running = serve()
    both = agent("--pid", running.pid), agent("--pid", running.pid)
    truth = drive(running, "both")
    for one in both:
        check(truth, one)


def test_own_export_traffic_is_not_told(agent: StartAgent, serve: StartServer) -> None:
    """Also if the receiver is watched: here it lives in this very process."""
    running = serve()
    with OtlpReceiver("http/protobuf") as backend:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": backend.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRIC_EXPORT_INTERVAL": "300",
        }
        flags = ("--pid", running.pid, "--pid", os.getpid())
        started = agent(*flags, environment=environment, exports=("otlp", "console"))
        truth = drive(running, "export")
        backend.wait_for(lambda: len(backend.spans()) >= len(truth) and len(backend.metrics) >= 3)
        spans = started.stop()
    exported = [span for span in spans if path_of(span).startswith("/v1/")]
    assert not exported, exported[:3]
    # this process is the client of the load, too
    assert compare(truth, [span for span in spans if kind_of(span) == SERVER]) == []


IP_LOCAL_PORT_RANGE = 51  # linux/in.h, Linux 6.3; not in Python's socket


def test_clients_may_have_the_port_of_the_agents_export(agent: StartAgent, serve: StartServer) -> None:
    """The kernel gives a local port to several connections, if they lead to different places."""
    running = serve()
    with OtlpReceiver("http/protobuf") as backend:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": backend.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        started = agent("--pid", running.pid, environment=environment, exports=("otlp", "console"))
        truth = drive(running, "before")
        backend.wait_for(lambda: len(backend.spans()) >= len(truth))
        port = int(backend.requests[0].peer.rpartition(":")[2])
        with socket.socket() as sock:
            try:
                sock.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("I", port << 16 | port))
            except OSError:
                pytest.skip("needs Linux 6.3, to choose a port that is in use")
            sock.connect(("127.0.0.1", running.port))
            assert sock.getsockname()[1] == port
            ask(sock, "/s/200/b/4/same-port")
        truth.append(Expected("/s/200/b/4/same-port", response_size=4, server_port=running.port, peer_port=port))
        check(truth, started)


def test_times_are_wall_clock(agent: StartAgent, serve: StartServer) -> None:
    running = serve()
    started = agent("--pid", running.pid)
    before = time.time()
    drive(running, "clock", 3)
    after = time.time()
    for span in started.stop():
        assert before - 0.01 <= int(span["startTimeUnixNano"]) / 1e9 <= after + 0.01
        assert 0 < seconds_of(span) < after - before


def test_what_it_keeps_of_memory(agent: StartAgent) -> None:
    """At most 60 MB with OTLP over gRPC, and maps of 32 MiB; from Linux 7 on there is one more (bpf/lib/probe.h)."""
    nobody = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}
    pid = agent("--pid", os.getpid(), exports=("otlp",), environment=nobody).pid
    maps = {}
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        fields = dict(re.findall(r"^(\w+):\s+(\d+)$", entry.read_text(), re.MULTILINE))
        if "map_type" in fields:
            maps[fields["map_id"]] = int(fields["memlock"])
    assert sum(maps.values()) <= (32 if int(os.uname().release.partition(".")[0]) < 7 else 38) << 20
    # once it has given back what the start took
    until = time.monotonic() + 15.0 * SLOWNESS
    while memory_of(pid) > MEMORY and time.monotonic() < until:
        time.sleep(0.2)
    assert memory_of(pid) <= MEMORY


def memory_of(pid: int) -> int:
    """Bytes, what is shared by its share."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) << 10
