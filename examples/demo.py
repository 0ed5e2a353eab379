"""Real services under load, and the agent that watches them: `make demo`.

    load -> nginx -> shop (Python) -> pricing (Node) -> stock (Go, if `go` is at hand)
                                   -> reviews (Java, if a JDK is at hand)

Shows live what the agent's own Prometheus endpoint says, and where the page is that it serves; at the end all of it,
and one request on its way through the services. On a terminal until Ctrl-C; with DEMO_SECONDS=30 it ends by itself,
with status 0 only if every service was seen. Everything is on 127.0.0.1, and ends with this program.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import table
from load import Load
from rich.console import Console
from rich.live import Live

HERE = Path(__file__).resolve().parent
AGENT = HERE.parent / ".venv/bin/autoinstr"
WINDOW = 10  # seconds that the live table looks back
START_LIMIT = 30  # seconds a service may take until it is ready
AGENT_LIMIT = (
    120  # and the agent, which compiles its eBPF programs the first time, on a machine that builds Go meanwhile
)
BUILD_LIMIT = 180  # seconds that the first build of the Go service may take
LATE = 8  # seconds to be seen, for a service that joins late
DIE_WITH_US = ("setpriv", "--pdeathsig", "TERM", "--")  # even if we are killed ourselves
ABOUT = "rate: requests a second; p50, p95, p99: milliseconds, interpolated within histogram buckets"

console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)


class DemoError(Exception):
    """Why the demo can't go on: printed as it is."""


@dataclass
class Service:
    """One example: how it is started, and how others reach it."""

    name: str
    port: int
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Timed(NamedTuple):
    time: float
    reading: table.Reading


def say(text: str) -> None:
    console.print(f"[bold]==>[/bold] {text}")


def free_port(wanted: int) -> int:
    """The wanted port, or any other one if it is taken."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise DemoError("no free port on 127.0.0.1")


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        return str(response.read().decode())


class Children:
    """Started processes; their output goes to files. All end with `end`, and with us however we die."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self._running: list[subprocess.Popen[bytes]] = []

    def start(
        self, name: str, command: list[str], environment: dict[str, str], folder: Path = HERE
    ) -> subprocess.Popen[bytes]:
        with self.log(name).open("wb") as log:
            process = subprocess.Popen(
                [*DIE_WITH_US, *command],
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: we end the others in order
            )
        self._running.append(process)
        return process

    def log(self, name: str) -> Path:
        return self.work / f"{name}.log"

    def failed(self, name: str, why: str) -> DemoError:
        tail = "\n".join(self.log(name).read_text(errors="replace").splitlines()[-15:])
        return DemoError(f"{name} {why}. It said:\n{tail or '(nothing)'}")

    def end(self) -> None:
        """The last one first: the agent, then the services."""
        for process in reversed(self._running):
            process.terminate()
        deadline = time.monotonic() + 6
        for process in reversed(self._running):
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Demo:
    """The whole run."""

    def __init__(self, work: Path) -> None:
        self.children = Children(work)
        self.services: list[Service] = []
        self.late: tuple[Service, subprocess.Popen[bytes]] | None = None  # still being built
        self.metrics = self.page = ""
        self.load: Load | None = None

    def start(self) -> None:
        """Services from the back to the front, then the agent, then load."""
        stock = self._stock()
        pricing = self._add("pricing", 18082, ["node", "node-pricing/pricing.js"], STOCK_URL=stock.url if stock else "")
        reviews = self._reviews()
        shop = self._add(
            "shop",
            18081,
            ["/usr/bin/python3", "python-shop/shop.py"],
            PRICING_URL=pricing.url,
            REVIEWS_URL=reviews.url if reviews else "",
        )
        gateway = self._nginx(shop)
        self._agent()
        self.load = Load(gateway.port)
        self.load.start()

    def end(self) -> None:
        if self.load:
            self.load.stop()
        self.children.end()

    def reading(self) -> Timed:
        try:
            return Timed(time.monotonic(), table.read(get(self.metrics)))
        except OSError as error:
            raise self.children.failed("agent", f"does not answer: {error}") from error

    def _add(self, name: str, port: int, command: list[str], **environment: str) -> Service:
        service = Service(name, free_port(port), command, environment)
        self.services.append(service)
        self._launch(service)
        return service

    def _launch(self, service: Service) -> None:
        process = self.children.start(service.name, service.command, {**service.environment, "PORT": str(service.port)})
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                get(f"{service.url}/health")
                say(f"{service.name} at {service.url} ({Path(service.command[0]).name})")
                return
            if process.poll() is not None:
                raise self.children.failed(service.name, f"ended with status {process.returncode}")
            time.sleep(0.05)
        raise self.children.failed(service.name, f"was not ready in {START_LIMIT} s")

    def _stock(self) -> Service | None:
        """Go needs a build, half a minute when nothing is cached: it joins when it is done."""
        if not shutil.which("go"):
            say("no go on the path: without the stock service")
            return None
        binary = HERE.parent / ".cache/demo/stock"
        service = Service("stock", free_port(18083), [str(binary)])
        binary.parent.mkdir(parents=True, exist_ok=True)
        say("building stock (go), joins when it is done")
        build = self.children.start(
            "go-build",
            ["go", "build", "-buildvcs=false", "-o", str(binary), "."],
            {"GOTOOLCHAIN": "local"},  # never fetch another one
            HERE / "go-stock",
        )
        self.late = (service, build)
        self.services.append(service)
        return service

    def _reviews(self) -> Service | None:
        if not shutil.which("javac"):
            say("no javac on the path: without the reviews service")
            return None
        return self._add("reviews", 18084, ["java", "-Dsun.net.httpserver.nodelay=true", "java-reviews/Reviews.java"])

    def _nginx(self, shop: Service) -> Service:
        port = free_port(18080)
        names = {"WORK": str(self.children.work), "PORT": str(port), "SHOP_PORT": str(shop.port)}
        configuration = self.children.work / "nginx.conf"
        template = string.Template((HERE / "nginx/nginx.conf").read_text())
        configuration.write_text(template.safe_substitute(names))
        nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin") or "nginx"
        service = Service(
            "nginx", port, [nginx, "-p", str(self.children.work), "-c", str(configuration), "-e", "stderr"]
        )
        self.services.append(service)
        self._launch(service)
        return service

    def _agent(self) -> None:
        say("starting the agent")
        port, page = free_port(19464), free_port(8377)
        ports = ",".join(str(service.port) for service in self.services)
        command = [str(AGENT), "run", "--port", ports, "--prometheus-port", str(port), "--ui", f"127.0.0.1:{page}"]
        command += ["--export", "prometheus"]
        began = time.monotonic()
        process = self.children.start("agent", command, {})
        while "\nready" not in "\n" + self.children.log("agent").read_text():
            if process.poll() is not None:
                raise self.children.failed("agent", f"ended with status {process.returncode}")
            if time.monotonic() - began > AGENT_LIMIT:
                raise self.children.failed("agent", f"was not ready in {AGENT_LIMIT} s")
            time.sleep(0.05)
        self.metrics = f"http://127.0.0.1:{port}/metrics"
        say(f"agent ready after {time.monotonic() - began:.1f} s, metrics at {self.metrics}")
        self.page = f"http://127.0.0.1:{page}/"
        say(f"the page: {self.page}")

    def join_late(self) -> bool:
        """Start what has been built meanwhile; whether there was something."""
        if not self.late or self.late[1].poll() is None:
            return False
        service, build = self.late
        self.late = None
        if build.returncode:
            raise self.children.failed("go-build", f"ended with status {build.returncode}")
        self._launch(service)
        return True

    def trace(self) -> list[dict[str, Any]]:
        """One of the last requests, that went through most services: its spans."""
        asked = "api/spans?service=nginx&kind=server&failed=0&text=/products&limit=20"
        with contextlib.suppress(OSError):
            ids = [span["traceId"] for span in json.loads(get(self.page + asked))["spans"]]
            traces = [json.loads(get(f"{self.page}api/trace?id={one}"))["spans"] for one in ids]
            return max(traces, key=lambda spans: len({span["service"] for span in spans}), default=[])
        return []

    def missing(self, reading: table.Reading) -> list[str]:
        return [service.name for service in self.services if not reading.served[service.port]]


def summary(reading: table.Reading) -> str:
    """What was told, and what was lost."""
    lost = ", ".join(f"{count:,} {what}" for what, count in reading.lost.items())
    return f"{reading.requests:,} requests seen, {f'lost: {lost}' if lost else 'nothing lost'}"


class Picture:
    """What shows the readings: a table in place on a terminal, a line now and then elsewhere."""

    def __init__(self, services: int, page: str) -> None:
        self._services = services
        self._page = page
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._last_line = 0.0

    def __enter__(self) -> Picture:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, before: Timed, now: Timed) -> None:
        seen = f"{summary(now.reading)}, {len(now.reading.served)} of {self._services} services"
        if self._live:
            caption = f"last {WINDOW} s · {seen} · Ctrl-C ends · page: {self._page}\n{ABOUT}"
            rows = max(5, console.height - 12)
            picture = table.table(now.reading, before.reading, now.time - before.time, rows, caption)
            self._live.update(picture, refresh=True)
        elif now.time - self._last_line >= WINDOW / 2:
            self._last_line = now.time
            console.print(seen)


def watch(demo: Demo, seconds: float) -> table.Reading:
    """Show a reading a second until time is over; the last one."""
    readings = deque([demo.reading()])
    end, build_end = readings[0].time + seconds, readings[0].time + BUILD_LIMIT
    with Picture(len(demo.services), demo.page) as picture:
        while (now := time.monotonic()) < end or (demo.late and now < build_end):
            time.sleep(1)
            if demo.join_late():
                end = max(end, time.monotonic() + LATE)
            readings.append(demo.reading())
            while readings[-1].time - readings[0].time > WINDOW:
                readings.popleft()
            picture.show(readings[0], readings[-1])
    return readings[-1].reading


def run(work: Path) -> int:
    seconds = float(os.environ.get("DEMO_SECONDS") or "inf")
    demo, interrupted = Demo(work), False
    try:
        demo.start()
        began = time.monotonic()
        try:
            reading = watch(demo, seconds)
        except KeyboardInterrupt:
            if not console.is_terminal:
                raise
            interrupted, reading = True, demo.reading()
        spans = demo.trace()
    finally:
        demo.end()
    caption = f"since the start · {summary(reading)}\n{ABOUT}"
    console.print(table.table(reading, table.Reading(), time.monotonic() - began, 100, caption))
    if spans:
        console.print(table.trace(spans))
    if interrupted:
        return 0
    missing = demo.missing(reading)
    if missing:
        console.print(f"[red]not seen: {', '.join(missing)}[/red]")
        return 1
    console.print(f"all {len(demo.services)} services seen")
    return 0


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="autoinstr-demo-") as work:
        Path(work).chmod(0o755)  # nginx's workers are another user
        try:
            return run(Path(work))
        except DemoError as error:
            console.print(f"demo: {error}", style="red", markup=False)
            return 1
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
