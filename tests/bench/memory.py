"""What the agent takes in memory when it has met programs of all kinds: before any load, and while each bears its
utmost, with every span exported. A variant for each way to export; which part of its memory it is, too.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import generators
import meter
import servers
from apps import APPS
from figures import Figures, Part, summary
from full_load import EVERY
from no_load import SETTLING
from place import Place
from price import APPS as OF_APPS
from price import SCRIPTS
from servers import PLAIN_SERVERS, Running, Server
from watching import Watching, watching

WATCHED = ("nginx-tls", "node-tls", "go", "go-tls", "grpc-go", "flask-tls", "nginx-h2c")
JAVA = servers.by_name("java", PLAIN_SERVERS)
SINK_GRPC = Server("sink-grpc", ("{python}", str(Path(__file__).with_name("sink_grpc.py")), "{port}"))
PROTOCOLS = {"http/protobuf": "OTLP over HTTP", "grpc": "OTLP over gRPC"}
EVERY_SECONDS = 0.1  # it is looked at under load
PARTS = {"heap": "[heap]", "anonymous": ""}  # by the name of the mapping


class Sampling:
    """The most that was seen, of all and of parts."""

    def __init__(self, pids: list[int]) -> None:
        self.pids = pids
        self.samples: list[Figures] = []

    def look(self) -> Figures:
        mapped = meter.pss_by_mapping(self.pids)
        own = {f"pss_{name}_bytes": mapped.get(mapping, 0) for name, mapping in PARTS.items()}
        total = sum(mapped.values())
        return {"pss_bytes": total, **own, "pss_files_bytes": total - sum(own.values())}

    @contextmanager
    def meanwhile(self) -> Iterator[None]:
        done = threading.Event()

        def sample() -> None:
            while not done.wait(EVERY_SECONDS):
                self.samples.append(self.look())

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def most(self) -> Figures:
        return max(self.samples, key=lambda one: one["pss_bytes"])


def turn(agent: Watching, running: list[Running], place: Place, wrong: list[str]) -> Figures:
    sampling = Sampling(agent.pids)
    time.sleep(SETTLING)
    idle = sampling.look()["pss_bytes"]
    requests, used = agent.told(), sum(meter.cpu_seconds(agent.pids))
    before = requests
    for server in running:
        with sampling.meanwhile():
            requests += generators.saturate(server, place.seconds, place.folder).requests
            told = agent.wait_told(requests)
        if told < requests:
            wrong.append(f"{server.server.name}: {requests - told} requests are missing in the metrics")
            requests = told
    used = sum(meter.cpu_seconds(agent.pids)) - used
    return {"pss_idle_bytes": idle, **sampling.most(), "agent_us": used / (requests - before) * 1e6}


def apart(package: str, folder: Path) -> dict[str, str]:
    """The environment of a program that imports a copy of a package: else its pages would be shared with the agent, as
    they are with nobody elsewhere."""
    spec = find_spec(package)
    assert spec and spec.origin
    shutil.copytree(Path(spec.origin).parent, folder / package)
    return {"PYTHONPATH": str(folder)}


def measure(place: Place) -> Part:
    """Its part of the price list: the variants are protocols."""
    wrong: list[str] = []
    chosen = [app.server for app in APPS if app.name in WATCHED] + [JAVA]
    present = [server for server in chosen if not servers.missing(server)]
    names = ", ".join(server.name for server in present)
    rounds: dict[str, list[Figures]] = {protocol: [] for protocol in PROTOCOLS}
    with ExitStack() as stack:
        sink = servers.launch(SINK_GRPC, place.folder / "sink_grpc", environment=apart("grpc", place.folder / "apart"))
        stack.callback(sink.stop)
        running = []
        for server in present:
            folder = place.folder / f"memory_{server.name}"
            running.append(servers.launch(server, folder, apps=OF_APPS, scripts=SCRIPTS, log="off"))
            stack.callback(running[-1].stop)
        for one in running:
            servers.wait_up(one)
        ports = ",".join(str(one.port) for one in running)
        endpoints = {"http/protobuf": place.endpoint("memory"), "grpc": f"http://127.0.0.1:{sink.port}"}
        for _ in range(place.rounds):
            for protocol, found in rounds.items():
                settings = EVERY | {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_METRIC_EXPORT_INTERVAL": "2000"}
                with watching(ports, endpoints[protocol], settings) as agent:
                    found.append(turn(agent, running, place, wrong))
    return {
        "title": f"memory: every span of {names}, one after the other",
        "wrong": wrong,
        "variants": {name: {"title": title, **summary(rounds[name])} for name, title in PROTOCOLS.items()},
    }
