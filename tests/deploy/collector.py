"""A real OpenTelemetry Collector (`backends.py`) that writes down what it receives.

In: OTLP by gRPC and HTTP, with TLS if it is given certificates. Out: spans and metric points, each with its resource.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from machine import wait_for
from ports import free_port


class Told(NamedTuple):
    """A span, or a metric with one point, and the attributes of its resource."""

    resource: dict[str, Any]
    content: dict[str, Any]

    @property
    def attributes(self) -> dict[str, Any]:
        return plain(self.content["attributes"])


def plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    """OTLP's JSON attributes as a dictionary."""
    return {one["key"]: _value(one["value"]) for one in attributes}


def _value(value: dict[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "arrayValue":
        return [_value(one) for one in content.get("values", [])]
    return int(content) if kind == "intValue" else content


class Collector:
    def __init__(
        self,
        program: Path,
        folder: Path,
        address: str = "127.0.0.1",
        tls: dict[str, str] | None = None,
        *,
        forward: str = "",
        raw: bool = False,
    ) -> None:
        """`forward`: where it sends all of it, in batches, as a gateway does; nothing is written down then.

        `raw`: it writes protobuf, a file a signal (`file_of`), which costs it less, and can't be asked for spans.
        """
        self.grpc, self.http = free_port(address), free_port(address)
        self.address = address
        self.file = folder / "told.jsonl"
        self._log = (folder / "collector.log").open("ab")
        protocols = {
            "grpc": {"endpoint": f"{address}:{self.grpc}", **({"tls": tls} if tls else {})},
            "http": {"endpoint": f"{address}:{self.http}", **({"tls": tls} if tls else {})},
        }
        self._folder = folder
        processors: dict[str, Any] = {"batch": {"timeout": "1s"}} if forward else {}
        exporters: dict[str, Any] = {}
        pipelines = {}
        for signal in ("traces", "metrics", "logs"):
            name = "otlp_http" if forward else f"file/{signal}" if raw else "file"
            path, form = (self.file_of(signal), "proto") if raw else (self.file, "json")
            written = {"path": str(path), "flush_interval": "100ms", "format": form}
            exporters[name] = {"endpoint": forward} if forward else written
            pipelines[signal] = {"receivers": ["otlp"], "processors": [*processors], "exporters": [name]}
        config = {
            "receivers": {"otlp": {"protocols": protocols}},
            "processors": processors,
            "exporters": exporters,
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": pipelines,
            },
        }
        self._config = folder / "collector.yaml"
        self._config.write_text(json.dumps(config))
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Collector:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._log.close()

    def start(self) -> None:
        command = [str(self._program), "--config", str(self._config)]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        wait_for(self._answers, f"the collector listens: see {self._log.name}", 20)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(15)
            self._process = None

    def file_of(self, signal: str) -> Path:
        return self._folder / f"told.{signal}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _answers(self) -> bool:
        assert self._process and self._process.poll() is None, "it ended"
        for port in (self.grpc, self.http):
            socket.create_connection((self.address, port), 1).close()
        return True

    def spans(self) -> list[Told]:
        return told_in(self.file, "Spans")

    def metrics(self) -> list[Told]:
        return told_in(self.file, "Metrics")

    def logs(self) -> list[Told]:
        return told_in(self.file, "Logs")


def told_in(file: Path, signal: str) -> list[Told]:
    """What a Collector wrote down of a signal: `Spans`, `Metrics`, `Logs`."""
    scopes = f"scope{signal}"
    items = {"Spans": "spans", "Metrics": "metrics", "Logs": "logRecords"}[signal]
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [
        Told(plain(resource["resource"]["attributes"]), one)
        for line in lines
        for resource in json.loads(line).get(f"resource{signal}", [])
        for scope in resource[scopes]
        for one in scope[items]
    ]


def edges(spans: list[Told]) -> Counter[tuple[str, str]]:
    """Who calls whom, as a backend tells it: a client's span, and the server's of the same trace that is its child."""
    clients = {(one.content["traceId"], one.content["spanId"]): one for one in spans if one.content["kind"] == 3}
    found = Counter[tuple[str, str]]()
    for one in (span for span in spans if span.content["kind"] == 2):
        if caller := clients.get((one.content["traceId"], one.content.get("parentSpanId", ""))):
            found[str(caller.resource["service.name"]), str(one.resource["service.name"])] += 1
    return found
