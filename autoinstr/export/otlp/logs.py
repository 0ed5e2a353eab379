"""The agent's own log as OTLP logs, for OTEL_LOGS_EXPORTER=otlp: what it says on stderr, a backend has too.

In: records of Python's `logging`, from any thread. Out: `LogBatch`es for a sender. What the sender itself has to say is
left out: it would feed itself.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass

from autoinstr.model import Attributes

MAX_WAITING = 1000  # lines; the log is limited where it is written, so this is hours of it
TOGETHER = 1.0  # seconds that a line may wait for others
SENDER = "otlp-logs"  # name of the thread
# OpenTelemetry's SeverityNumber of Python's levels
SEVERITY = {logging.DEBUG: 5, logging.INFO: 9, logging.WARNING: 13, logging.ERROR: 17, logging.CRITICAL: 21}
_RESOURCE_SCOPE = "autoinstr"


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Lines that are sent together."""

    records: tuple[logging.LogRecord, ...]


class LogQueue(logging.Handler):
    """A handler that keeps what is logged until it is taken; the oldest lines make way for new ones."""

    def __init__(self) -> None:
        super().__init__()
        self._records: deque[logging.LogRecord] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        if threading.current_thread().name == SENDER:
            return
        with self._changed:
            if len(self._records) >= MAX_WAITING:
                self._records.popleft()
                self.dropped += 1
            self._records.append(record)
            self._changed.notify()

    def take(self) -> LogBatch | None:
        """All that waits, as soon as there is something; None when it was closed and is empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._records or self._closed)
            if not self._closed:
                self._changed.wait_for(lambda: self._closed, TOGETHER)
            records = tuple(self._records)
            self._records.clear()
        return LogBatch(records) if records else None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        super().close()

    def abandon(self) -> int:
        with self._changed:
            count = len(self._records)
            self._records.clear()
            return count


def encode_logs(batch: LogBatch, resource: Attributes, version: str) -> bytes:
    """One `ExportLogsServiceRequest`."""
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2  # noqa: PLC0415 - 1 MB that others need not have

    request = logs_service_pb2.ExportLogsServiceRequest()
    found = request.resource_logs.add()
    for key, value in resource.items():
        found.resource.attributes.add(key=key).value.string_value = str(value)
    scope = found.scope_logs.add()
    scope.scope.name, scope.scope.version = _RESOURCE_SCOPE, version
    for record in batch.records:
        line = scope.log_records.add(
            time_unix_nano=int(record.created * 1e9),
            observed_time_unix_nano=time.time_ns(),
            severity_number=SEVERITY.get(record.levelno, 0),
            severity_text=record.levelname,
        )
        line.body.string_value = record.getMessage()
        line.attributes.add(key="code.function.name").value.string_value = f"{record.name}.{record.funcName}"
        if record.exc_info and record.exc_info[1] is not None:
            text = "".join(traceback.format_exception(record.exc_info[1]))
            line.attributes.add(key="exception.stacktrace").value.string_value = text
    return request.SerializeToString()
