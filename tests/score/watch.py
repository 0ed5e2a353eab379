"""The agent as a user would start it, and all that it exports: spans over OTLP, metrics as Prometheus reads them.

Out: spans as the dictionaries that `truth` compares, and counts of requests by kind, method and status.
"""

from __future__ import annotations

import re
import time
import urllib.request
from collections import Counter
from collections.abc import Collection
from typing import Any

from agent import Agent
from generator import Made
from otlp_receiver import OtlpReceiver, attributes
from ports import free_port
from truth import CLIENT, SERVER, path_of

TOLD_WITHIN = 6.0
LOOKS_EVERY = 1.0  # the agent does, at low rates, and a bit: by then it has told also what may or may not be told
COUNT = re.compile(
    r"^(?:http|rpc)_(server|client)_(?:request|call)_duration_seconds_count\{(.*?)\} (\S+)", re.MULTILINE
)
LOST = re.compile(r'^autoinstr_lost_total\{loss="(.*?)"\} (\d+)', re.MULTILINE)
ORPHANS = re.compile(r'^autoinstr_without_parent_total\{reason="(.*?)"\} (\d+)', re.MULTILINE)
LABELS = (
    re.compile(r'(?:http_request|rpc)_method="(.*?)"'),
    re.compile(r'(?:http_response_status|rpc_grpc_status)_code="(.*?)"'),
)
Counts = Counter[tuple[str, str, int]]


class Watch:
    """One run of the agent."""

    def __init__(self, flags: Collection[str]) -> None:
        self._flags = flags
        self._page = 0
        self._backend = OtlpReceiver("http/protobuf")
        self._agent: Agent | None = None
        self._read = 0  # messages of the backend
        self._last: Counts = Counter()
        self._lost: Counter[str] = Counter()
        self.orphans: dict[str, int] = {}  # requests without a parent, by reason, since the start
        self.spans: list[dict[str, Any]] = []
        self.told: Counter[tuple[str, str]] = Counter()

    @property
    def running(self) -> bool:
        return self._agent is not None

    def start(self) -> None:
        self._page = free_port()
        self._backend.start()
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self._backend.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_TRACES_SAMPLER": "always_on",
        }
        flags = (*self._flags, "--prometheus-port", self._page)
        self._agent = Agent(*flags, environment=environment, exports=("otlp", "prometheus"))
        self._agent.wait_ready()

    def stop(self) -> None:
        """AssertionError: the agent did not end as it should."""
        if self._agent:
            self._agent.stop()
            self._take_spans()

    def kill(self) -> None:
        """Whatever is left."""
        if self._agent:
            self._agent.kill()
        self._backend.stop()

    def _text(self) -> str:
        """AssertionError: the agent does not answer."""
        assert self._agent
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._page}/metrics", timeout=10) as response:
                return str(response.read().decode())
        except OSError as error:
            time.sleep(LOOKS_EVERY)  # if it ended, its status is known by then
            status = self._agent.process.poll()
            raise AssertionError(
                f"{self._agent.stderr}\nno metrics from the agent (exit status {status}): {error}"
            ) from error

    def _take_spans(self) -> None:
        messages = self._backend.traces
        while self._read < len(messages):
            for resource in messages[self._read].resource_spans:
                for scope in resource.scope_spans:
                    for span in map(as_dictionary, scope.spans):
                        self.spans.append(span)
                        self.told[span["kind"], path_of(span)] += 1
            self._read += 1

    def settle(self, made: Collection[Made]) -> tuple[Counts, Counter[str]]:
        """Wait until all that must be told is, or that it is late. What was counted and lost since the last time.

        AssertionError: the agent does not answer.
        """
        due = [(one.expected.kind, one.expected.path) for one in made if not one.expected.optional]
        end = time.monotonic() + TOLD_WITHIN
        if len(due) < len(made):
            time.sleep(LOOKS_EVERY)
        while True:
            counts = counted(text := self._text()) - self._last
            self._take_spans()
            if counts.total() >= len(due) and all(self.told[key] for key in due):
                break
            if time.monotonic() > end:
                break
            time.sleep(0.1)
        lost = Counter({name: int(count) for name, count in LOST.findall(text)})
        self.orphans = {reason: int(count) for reason, count in ORPHANS.findall(text) if int(count)}
        newly_lost, self._lost = lost - self._lost, lost
        self._last += counts
        return counts, newly_lost

    def counted_by(self, due: int) -> int:
        """Requests that were counted since the start, when so many are, or that is late."""
        end = time.monotonic() + TOLD_WITHIN
        while counted(self._text()).total() < due and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(LOOKS_EVERY)  # more than there should be?
        return counted(self._text()).total()


def counted(text: str) -> Counts:
    counts: Counts = Counter()
    for kind, labels, value in COUNT.findall(text):
        method, status = (found[1] if (found := label.search(labels)) else "" for label in LABELS)
        counts[SERVER if kind == "server" else CLIENT, method, int(status or 0)] += int(float(value))
    return counts


def as_dictionary(span: Any) -> dict[str, Any]:
    return {
        "kind": {2: SERVER, 3: CLIENT}.get(span.kind, str(span.kind)),
        "traceId": span.trace_id.hex(),
        "spanId": span.span_id.hex(),
        "parentSpanId": span.parent_span_id.hex(),
        "startTimeUnixNano": span.start_time_unix_nano,
        "endTimeUnixNano": span.end_time_unix_nano,
        "status": span.status.code,
        "attributes": attributes(span.attributes),
    }
