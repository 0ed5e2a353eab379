"""What waits for a sender thread, in bounded memory.

In: encoded spans and metric snapshots, from the pipeline's thread, which never waits here. Out: one request's worth at
a time to the sender's thread, which blocks without polling. Two queues, since the two signals lose differently:

- `SpanQueue` drops the oldest. Whoever looks at a service after an outage of the backend wants to see what is happening
  now, and many backends refuse spans that are old.
- `MetricQueue` holds one snapshot. Of cumulative ones the newest says all that older ones said, and more. Delta ones
  are added up, so counts stay exact however long the backend is away; `merge` bounds the number of series.

Must never send, and never know how it is done.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from autoinstr.export.base import Encoded
from autoinstr.export.otlp.settings import Batching
from autoinstr.model import Service, Snapshot
from autoinstr.semconv import SERVICE_INSTANCE_ID


@dataclass(frozen=True, slots=True)
class SpanBatch:
    """One request's worth of spans, in parts that are an `ExportTraceServiceRequest` each."""

    parts: list[bytes]
    spans: int

    def data(self) -> bytes:
        """One message: put end to end, messages are one with their repeated fields put end to end."""
        return b"".join(self.parts)


@dataclass(frozen=True, slots=True)
class MetricBatch:
    snapshot: Snapshot
    services: list[Service]

    def after(self, older: MetricBatch, merge: Callable[[Snapshot, Snapshot], Snapshot]) -> MetricBatch:
        """Both in one. What was a service's index is another one's by now, if its processes ended long ago."""
        services, place = list(self.services), dict[int, int]()
        for one in older.snapshot.series:
            number = one.service
            if number not in place:
                service = older.services[number]
                stays = number < len(services) and _is_same(services[number], service)
                place[number] = number if stays else len(services)
                if not stays:
                    services.append(service)
            one.service = place[number]
        return MetricBatch(merge(older.snapshot, self.snapshot), services)


def _is_same(one: Service, other: Service) -> bool:
    """Of one of them more may be known."""
    instance = one.attributes.get(SERVICE_INSTANCE_ID)
    return one is other or (instance is not None and instance == other.attributes.get(SERVICE_INSTANCE_ID))


class SpanQueue:
    def __init__(self, batching: Batching) -> None:
        self._limits = batching
        self._waiting: deque[Encoded] = deque()
        self._since = 0.0  # when the oldest came
        self._bytes = 0
        self._spans = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def size(self) -> int:
        """Bytes waiting."""
        return self._bytes

    def put(self, batches: Iterable[Encoded]) -> int:
        """Add batches; how many spans had to be dropped for it."""
        dropped = 0
        with self._changed:
            if not self._waiting:
                self._since = time.monotonic()
            for batch in batches:
                self._waiting.append(batch)
                self._count(batch, 1)
            while self._too_full():
                oldest = self._waiting.popleft()
                self._count(oldest, -1)
                dropped += oldest.spans
            self._changed.notify()
        return dropped

    def take(self) -> SpanBatch | None:
        """Wait for spans, give others `delay` to come, and join what fits one request. None: closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._changed.wait_for(self._is_due, timeout=self._since + self._limits.delay - time.monotonic())
            if not self._waiting:
                return None
            taken = self._fitting()
            self._since = time.monotonic() - self._limits.delay  # the rest has waited already
        return SpanBatch([batch.data for batch in taken], sum(batch.spans for batch in taken))

    def close(self) -> None:
        """No more is put; `take` gives out what is left without delay."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> int:
        """Empty the queue; how many spans were in it."""
        with self._changed:
            left = self._spans
            self._waiting.clear()
            self._bytes = self._spans = 0
            self._closed = True
            self._changed.notify_all()
        return left

    def _count(self, batch: Encoded, sign: int) -> None:
        self._bytes += sign * len(batch.data)
        self._spans += sign * batch.spans

    def _too_full(self) -> bool:
        limits = self._limits
        return bool(self._waiting) and (
            self._bytes > limits.queue_bytes
            or len(self._waiting) > limits.queue_batches
            or (limits.queue_spans is not None and self._spans > limits.queue_spans)
        )

    def _is_due(self) -> bool:
        limits = self._limits
        return self._closed or self._bytes >= limits.request_bytes or self._spans >= limits.request_spans

    def _fitting(self) -> list[Encoded]:
        """The oldest batches that go into one request together; one that is too large alone goes alone."""
        taken: list[Encoded] = []
        size = spans = 0
        while self._waiting:
            batch = self._waiting[0]
            size, spans = size + len(batch.data), spans + batch.spans
            if taken and (size > self._limits.request_bytes or spans > self._limits.request_spans):
                break
            taken.append(self._waiting.popleft())
            self._count(batch, -1)
        return taken


class MetricQueue:
    def __init__(self, merge: Callable[[Snapshot, Snapshot], Snapshot]) -> None:
        self._merge = merge
        self._waiting: MetricBatch | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, batch: MetricBatch) -> int:
        """Add a snapshot; 1 if it took the place of an older cumulative one, else 0."""
        with self._changed:
            replaced = 0
            if self._waiting is not None:
                if batch.snapshot.delta:
                    batch = batch.after(self._waiting, self._merge)
                else:
                    replaced = 1
            self._waiting = batch
            self._changed.notify()
        return replaced

    def take(self) -> MetricBatch | None:
        """Wait for a snapshot. None: closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._closed)
            batch, self._waiting = self._waiting, None
        return batch

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> int:
        """Empty the queue; how many batches were in it."""
        with self._changed:
            left = int(self._waiting is not None)
            self._waiting = None
            self._closed = True
            self._changed.notify_all()
        return left
