"""Under overload and without a backend: spans may be missing, a request count, an error count or a duration may not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import load
import pytest
import servers
from agent import END_WITHIN, Agent
from load import Plan
from otlp_receiver import OtlpReceiver
from ports import free_port
from servers import Running, Server

NGINX = Server(
    "nginx",
    ("nginx", "-p", "{folder}", "-c", "{folder}/nginx_load.conf"),
    needs=("nginx", "wrk"),
    files=("nginx_load.conf",),
)
PLAIN = Server("plain", ("{python}", "{here}/threading_http.py", "{port}"))
# Every tenth request fails, every request has a path of its own.
WRK_SCRIPT = """
local n = 0
request = function()
  n = n + 1
  return wrk.format("GET", (n % 10 == 0 and "/error/" or "/ok/") .. n)
end
"""
LOAD_SECONDS = 9
STOPPED_SECONDS = 6
CONNECTIONS = 16
DURATION = "http_server_request_duration_seconds"
CALLS = "rpc_server_call_duration_seconds"
GRPC = Server("grpc-go", ("{folder}/grpc-go", "serve", "{port}", ""), transport="grpc", **servers.GRPC_GO)

StartAgent = Callable[..., Agent]


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        return str(response.read().decode())


def sum_by_status(text: str, name: str) -> Counter[str]:
    """Sum of a metric's samples by status code ("": none)."""
    sums: Counter[str] = Counter()
    for labels, value in re.findall(rf"^{name}\{{(.*?)\}} (\S+)", text, re.MULTILINE):
        found = re.search(r'http_response_status_code="(\d+)"', labels)
        if 'le="' not in labels or 'le="+Inf"' in labels:
            sums[found[1] if found else ""] += int(float(value))
    return sums


def wait_for(condition: Callable[[], bool], timeout: float = 15.0) -> bool:
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Running]:
    if lacking := servers.missing(NGINX):
        pytest.skip(f"needs {', '.join(lacking)}")
    # the log stays in memory until the end
    running = servers.launch(NGINX, tmp_path / "nginx", log=f"{tmp_path}/nginx/access.log status buffer=1m")
    yield servers.wait_up(running)
    running.stop()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Running]:
    running = servers.launch(PLAIN, tmp_path / "plain")
    yield servers.wait_up(running)
    running.stop()


def logged(nginx: Running) -> Counter[str]:
    """What nginx answered, by status. Ends nginx: it keeps its log in memory until then."""
    nginx.process.send_signal(signal.SIGQUIT)
    nginx.process.wait(20)
    return Counter((nginx.folder / "access.log").read_text().split())


def test_counts_are_exact_although_the_agent_stood_still(agent: StartAgent, nginx: Running, tmp_path: Path) -> None:
    (tmp_path / "script.lua").write_text(WRK_SCRIPT)
    page = free_port()
    started = agent("--port", nginx.port, "--prometheus-port", page, exports=("prometheus",))
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{LOAD_SECONDS}s", "-s", str(tmp_path / "script.lua")]
    wrk = subprocess.Popen([*command, f"http://127.0.0.1:{nginx.port}"], stdout=subprocess.PIPE, text=True)
    time.sleep(1)
    os.kill(started.pid, signal.SIGSTOP)
    time.sleep(STOPPED_SECONDS)
    os.kill(started.pid, signal.SIGCONT)
    output, _ = wrk.communicate(timeout=60)
    by_wrk = int(re.findall(r"(\d+) requests in", output)[0])
    errors_by_wrk = int(re.findall(r"Non-2xx or 3xx responses: (\d+)", output)[0])
    truth = logged(nginx)
    assert by_wrk <= truth.total() <= by_wrk + CONNECTIONS
    assert errors_by_wrk <= truth["500"] <= errors_by_wrk + CONNECTIONS

    text = ""

    def told() -> Counter[str]:
        nonlocal text
        text = metrics(page)
        return sum_by_status(text, f"{DURATION}_count")

    wait_for(lambda: told().total() >= truth.total())
    lost = re.search(r'autoinstr_lost_total\{loss="ring_full"\} (\d+)', text)
    assert lost and int(lost[1]) > 0, "the ring never overflowed: this tested nothing"
    started.stop()
    assert told_like(sum_by_status(text, f"{DURATION}_count")) == told_like(truth)
    assert told_like(sum_by_status(text, f"{DURATION}_bucket")) == told_like(truth)
    for size in ("request", "response"):
        assert told_like(sum_by_status(text, f"http_server_{size}_body_size_bytes_count")) == told_like(truth)
    bytes_told = sum_by_status(text, "http_server_response_body_size_bytes_sum")
    assert bytes_told["200"] == truth["200"] * len("ok\n")


def told_like(counts: Counter[str]) -> Counter[str]:
    """nginx logs a client that went away as 499: no status for anyone else."""
    return Counter({"" if status == "499" else status: count for status, count in counts.items() if count})


def test_calls_are_exact_although_the_agent_stood_still(agent: StartAgent, tmp_path: Path) -> None:
    """gRPC: what is many streams of few connections. Names of methods may be lost, no call may."""
    if lacking := servers.missing(GRPC):
        pytest.skip(f"needs {', '.join(lacking)}")
    running = servers.wait_up(servers.launch(GRPC, tmp_path / "grpc"))
    page = free_port()
    started = agent("--pid", running.pid, "--prometheus-port", page, "--ring-size", "1MiB", exports=("prometheus",))
    program = running.folder / "grpc-go"
    command = [str(program), "load", str(running.port), str(LOAD_SECONDS - 2)]
    loading = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    time.sleep(1)
    os.kill(started.pid, signal.SIGSTOP)
    time.sleep(STOPPED_SECONDS - 2)
    os.kill(started.pid, signal.SIGCONT)
    output, _ = loading.communicate(timeout=60)
    result = json.loads(output)
    assert not result["failed"]
    made = result["requests"]
    text = ""

    def told() -> int:
        nonlocal text
        text = metrics(page)
        return sum(sum_by_status(text, f"{CALLS}_count").values())

    wait_for(lambda: told() >= made)
    time.sleep(1)
    lost = re.search(r'autoinstr_lost_total\{loss="ring_full"\} (\d+)', text)
    assert lost and int(lost[1]) > 0, "the ring never overflowed: this tested nothing"
    assert told() == made
    assert sum(sum_by_status(text, f"{CALLS}_bucket").values()) == made
    assert "http_server" not in text, "a call was taken for something else"
    started.stop()
    running.stop()


def otlp(backend: OtlpReceiver) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": backend.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": backend.protocol,
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1000",
    }


def drive(running: Running, count: int) -> None:
    work = [Plan(f"/s/{(200, 200, 500)[n % 3]}/b/10/{n}") for n in range(count)]
    load.run(lambda: servers.connect(running), work)


def latest(backend: OtlpReceiver) -> Counter[str]:
    """The newest point of each series, summed by status."""
    newest = {}
    for _, _, point in backend.points("http.server.request.duration"):
        series = {pair.key: str(pair.value) for pair in point.attributes}
        status = next((pair.value.int_value for pair in point.attributes if pair.key == "http.response.status_code"), 0)
        newest[tuple(sorted(series.items()))] = (str(status), point.count)
    sums: Counter[str] = Counter()
    for status, count in newest.values():
        sums[status] += count
    return sums


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_counts_are_exact_although_the_backend_was_away(agent: StartAgent, plain: Running, protocol: str) -> None:
    backend = OtlpReceiver(protocol)
    started = agent("--pid", plain.pid, environment=otlp(backend), exports=("otlp",))
    drive(plain, 601)
    time.sleep(2)  # several collections find nobody
    backend.start()
    try:
        drive(plain, 299)
        wait_for(lambda: latest(backend).total() >= 900, 20)
        started.stop()
        assert latest(backend) == {"200": 601 // 3 * 2 + 1 + 200, "500": 200 + 99}
    finally:
        backend.stop()


def test_dead_backend_does_not_hold_up_the_end(agent: StartAgent, plain: Running) -> None:
    backend = OtlpReceiver("http/protobuf")  # never started
    started = agent("--pid", plain.pid, environment=otlp(backend), exports=("otlp",))
    drive(plain, 101)
    begun = time.monotonic()
    started.stop()
    assert time.monotonic() - begun < END_WITHIN


def test_slow_backend_holds_up_nothing(agent: StartAgent, plain: Running) -> None:
    """Answers come late: the console goes on, and the counts are right at last."""
    with OtlpReceiver("http/protobuf") as backend:
        backend.delay = 0.7
        started = agent("--pid", plain.pid, environment=otlp(backend), exports=("otlp", "console"))
        drive(plain, 301)
        assert started.wait_for(lambda spans: len(spans) >= 301, 5)
        wait_for(lambda: latest(backend).total() >= 301, 20)
        started.stop()
        assert latest(backend).total() == 301
