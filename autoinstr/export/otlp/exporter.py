"""The OTLP exporter: wires encoders, queues, clients and transports, and counts what becomes of everything.

In: traced batches and snapshots from the pipeline's thread, which only encodes and queues here. Out: requests, sent by
one thread a signal that sleeps while there is nothing to send. The threads are daemons, so that a hanging backend never
keeps the program alive past the deadline of `close`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from autoinstr.export.base import Context
from autoinstr.export.limited_log import LimitedLog
from autoinstr.export.otlp.client import Client, Ending, Reply, Transport
from autoinstr.export.otlp.logs import LogBatch, LogQueue, encode_logs
from autoinstr.export.otlp.merge import merge
from autoinstr.export.otlp.queue import MetricBatch, MetricQueue, SpanBatch, SpanQueue
from autoinstr.export.otlp.settings import Batching, Endpoint
from autoinstr.health import Health, Loss
from autoinstr.model import Attributes, Group, Overflow, Service, Snapshot, Traced

logger = logging.getLogger(__name__)

Batch = TypeVar("Batch")
Taken_co = TypeVar("Taken_co", covariant=True)
# Between two deadlines' worth of attempts for the same delta metrics, which are kept until they are delivered.
REPEAT_PAUSE = 5.0


class Queue(Protocol[Taken_co]):
    def take(self) -> Taken_co | None: ...
    def close(self) -> None: ...
    def abandon(self) -> int: ...


class Sender(Generic[Batch]):
    """A thread that delivers batch after batch, and an end with a deadline."""

    def __init__(self, queue: Queue[Batch], endpoint: Endpoint, health: Health, user_agent: str) -> None:
        self.endpoint = endpoint
        self.health = health
        self.ending = Ending()
        self.log = LimitedLog(logger)
        self._queue = queue
        self._transport = make_transport(endpoint, user_agent)
        self.client = Client(self._transport, endpoint.timeout, self.ending)
        self._in_flight: Batch | None = None
        self._lock = threading.Lock()  # decides whether the thread or `finish` counts the batch in flight
        self._thread = threading.Thread(target=self._run, name=f"otlp-{endpoint.signal}", daemon=True)
        self._thread.start()

    def begin_end(self, deadline: float) -> None:
        self.ending.begin(deadline)
        self._queue.close()

    def finish(self, deadline: float) -> None:
        """Wait for the thread until the deadline, then give up what it did not deliver."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self.lost(self._queue.abandon())
            if (batch := self._finished()) is not None:
                self.lost(self.amount(batch))
        self._transport.close()

    def _run(self) -> None:
        while (batch := self._queue.take()) is not None:
            self._in_flight = batch
            accepted = 0
            try:
                accepted = self.deliver(batch)
            except Exception:  # the boundary of one export: the next one gets its chance
                logger.exception("%s: export failed", self.endpoint.signal)
                self.health.lose(Loss.INTERNAL)
            if self._finished() is not None:
                self.sent(accepted)
                self.lost(self.amount(batch) - accepted)
            batch = None  # a sleeping thread need not hold its last request's bytes

    def _finished(self) -> Batch | None:
        with self._lock:
            batch, self._in_flight = self._in_flight, None
            return batch

    def trouble(self, what: str, reply: Reply) -> None:
        hint = "; OTEL_EXPORTER_OTLP_TIMEOUT is in milliseconds" if self.endpoint.timeout < 0.2 else ""
        where = f"{self.endpoint.target} ({self.endpoint.protocol})"
        self.log.warning(what.partition(":")[0], f"{self.endpoint.signal} to {where}: {what}: {reply.problem}{hint}")

    def deliver(self, batch: Batch) -> int:
        """Send a batch; how much of its `amount` was accepted."""
        raise NotImplementedError

    def amount(self, batch: Batch) -> int:
        raise NotImplementedError

    def sent(self, count: int) -> None:
        raise NotImplementedError

    def lost(self, count: int) -> None:
        raise NotImplementedError


class SpanSender(Sender[SpanBatch]):
    what = "spans"

    def deliver(self, batch: SpanBatch) -> int:
        reply = self.client.export(batch.data())
        if not reply.ok:
            self.trouble(f"not delivered: {batch.spans} {self.what}", reply)
            return 0
        if reply.rejected:
            self.trouble(f"refused: {reply.rejected} of {batch.spans} {self.what}", reply)
        elif reply.problem:
            self.trouble("accepted with a warning", reply)
        return max(0, batch.spans - reply.rejected)

    def amount(self, batch: SpanBatch) -> int:
        return batch.spans

    def sent(self, count: int) -> None:
        self.health.did("spans_exported", count)

    def lost(self, count: int) -> None:
        self.health.lose(Loss.SPAN_EXPORT_FAILED, count)


class RequestLogSender(SpanSender):
    """Log records of requests: one a request, as spans are."""

    what = "request logs"

    def sent(self, count: int) -> None:
        self.health.did("request_logs_exported", count)

    def lost(self, count: int) -> None:
        self.health.lose(Loss.REQUEST_LOG_EXPORT_FAILED, count)


class MetricSender(Sender[MetricBatch]):
    encode: Callable[[Snapshot, list[Service]], bytes]

    def deliver(self, batch: MetricBatch) -> int:
        """Cumulative: one deadline, the next snapshot makes up for it. Delta: again and again, the bytes unchanged.

        Unchanged, because a backend may have taken them though its answer was lost: the same start and end time let it
        see that. What comes meanwhile is merged in the queue, not here.
        """
        data = self.encode(batch.snapshot, batch.services)
        while True:
            reply = self.client.export(data)
            if reply.ok:
                self._accepted(reply)
                return 1
            self.trouble("not delivered", reply)
            if not (batch.snapshot.delta and reply.retry) or self.ending.over:
                return 0
            self.health.did("metric_exports_repeated")
            self.ending.wait(REPEAT_PAUSE)

    def _accepted(self, reply: Reply) -> None:
        if reply.rejected:
            self.health.lose(Loss.METRIC_POINTS_REFUSED, reply.rejected)
            self.trouble(f"refused: {reply.rejected} points", reply)
        elif reply.problem:
            self.trouble("accepted with a warning", reply)

    def amount(self, batch: MetricBatch) -> int:
        return 1

    def sent(self, count: int) -> None:
        self.health.did("metric_batches_exported", count)

    def lost(self, count: int) -> None:
        self.health.lose(Loss.METRIC_EXPORT_FAILED, count)


class LogSender(Sender[LogBatch]):
    resource: Attributes
    version: str

    def deliver(self, batch: LogBatch) -> int:
        reply = self.client.export(encode_logs(batch, self.resource, self.version))
        if not reply.ok:
            self.trouble("not delivered", reply)
        return len(batch.records) - reply.rejected if reply.ok else 0

    def amount(self, batch: LogBatch) -> int:
        return len(batch.records)

    def sent(self, count: int) -> None:
        self.health.did("log_lines_exported", count)

    def lost(self, count: int) -> None:
        self.health.lose(Loss.LOG_LOST, count)


class OtlpExporter:
    name = "otlp"
    wants_spans = True
    wants_metrics = True

    def __init__(
        self,
        traces: Endpoint,
        metrics: Endpoint,
        logs: Endpoint | None,
        batching: Batching,
        context: Context,
        *,
        own_log: bool = False,
    ) -> None:
        """`logs`: where log records go, those of requests if they are wanted and, with `own_log`, the agent's own."""
        self._context = context
        self._health = context.health
        self._span_queue = SpanQueue(batching)
        self._metric_queue = MetricQueue(merge)
        agent = f"autoinstr/{context.version} OTel-OTLP-Exporter-Python"
        self._span_sender = SpanSender(self._span_queue, traces, context.health, agent)
        self._metric_sender = MetricSender(self._metric_queue, metrics, context.health, agent)
        self._metric_sender.encode = context.encode_metrics
        self._senders: list[Sender[Any]] = [self._metric_sender, self._span_sender]
        self._request_log_queue: SpanQueue | None = None
        if logs is not None and context.encode_request_logs is not None:
            self._request_log_queue = SpanQueue(batching)
            self._senders.append(RequestLogSender(self._request_log_queue, logs, context.health, agent))
        self._log_queue: LogQueue | None = None
        if logs is not None and own_log:
            self._log_queue = LogQueue()
            log_sender = LogSender(self._log_queue, logs, context.health, agent)
            log_sender.resource, log_sender.version = context.own_resource, context.version
            self._senders.append(log_sender)
            logging.getLogger().addHandler(self._log_queue)

    def spans(self, traced: Traced, groups: list[Group], services: list[Service]) -> None:
        encoded = self._context.encode_spans(traced, groups, services)
        self._health.lose(Loss.SPAN_QUEUE_FULL, self._span_queue.put(encoded))
        self._health.gauges["span_queue_bytes"] = self._span_queue.size
        if self._request_log_queue is not None and self._context.encode_request_logs is not None:
            records = self._context.encode_request_logs(traced, groups, services)
            self._health.lose(Loss.REQUEST_LOG_QUEUE_FULL, self._request_log_queue.put(records))

    def counted(self, overflow: Overflow, service: int, services: list[Service]) -> None:
        pass

    def metrics(self, snapshot: Snapshot, services: list[Service]) -> None:
        self._health.gauges["span_queue_bytes"] = self._span_queue.size
        replaced = self._metric_queue.put(MetricBatch(snapshot, list(services)))
        self._health.lose(Loss.METRIC_QUEUE_FULL, replaced)

    def close(self, deadline: float) -> None:
        if self._log_queue is not None:
            logging.getLogger().removeHandler(self._log_queue)
            self._health.lose(Loss.LOG_LOST, self._log_queue.dropped)
        for sender in self._senders:
            sender.begin_end(deadline)
        for sender in self._senders:
            sender.finish(deadline)


def make_transport(endpoint: Endpoint, user_agent: str) -> Transport:
    """The transport of an endpoint; only its own library is imported (grpc: 17 MB, urllib3: 9 MB)."""
    if endpoint.protocol == "grpc":
        from autoinstr.export.otlp.grpc import GrpcTransport  # noqa: PLC0415

        return GrpcTransport(endpoint, user_agent, rejected(endpoint.signal))
    from autoinstr.export.otlp.http import HttpTransport  # noqa: PLC0415

    return HttpTransport(endpoint, user_agent, rejected(endpoint.signal))


def rejected(signal: str) -> Callable[[bytes], tuple[int, str]]:
    """A reader of a signal's answer: how many spans or points were refused (partial success), and why."""

    def read(answer: bytes) -> tuple[int, str]:
        if len(answer) <= 2:  # empty, or an empty partial_success: accepted in full
            return 0, ""
        # Most answers are empty: who never gets another one need not load the messages.
        from google.protobuf.message import DecodeError  # noqa: PLC0415
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2  # noqa: PLC0415
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2  # noqa: PLC0415
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2  # noqa: PLC0415

        try:
            if signal == "traces":
                spans = trace_service_pb2.ExportTraceServiceResponse.FromString(answer).partial_success
                return spans.rejected_spans, spans.error_message
            if signal == "logs":
                lines = logs_service_pb2.ExportLogsServiceResponse.FromString(answer).partial_success
                return lines.rejected_log_records, lines.error_message
            points = metrics_service_pb2.ExportMetricsServiceResponse.FromString(answer).partial_success
            return points.rejected_data_points, points.error_message
        except DecodeError:  # accepted, as the status says; many backends answer with a text of their own
            return 0, ""

    return read
