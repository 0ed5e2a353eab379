"""One export: a request's bytes in, delivered or given up out, within one deadline for all attempts.

Retries only what the OTLP specification calls retryable (the transport says which), waits exponentially longer with
jitter between attempts, and obeys a server that says how long to wait, also across exports. Must never raise, and never
outlive its deadline by more than the transport does.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import Protocol

FIRST_BACKOFF = 0.5
MAX_BACKOFF = 5.0  # a backend that is back should be noticed within seconds
MAX_THROTTLE = 300.0  # longer waits than this are a server's mistake


@dataclass(frozen=True, slots=True)
class Reply:
    """Outcome of one attempt."""

    ok: bool
    rejected: int = 0  # spans or points refused though the request was accepted (partial success)
    retry: bool = False  # the same bytes may be accepted later
    retry_after: float | None = None  # seconds that the server asks to wait
    problem: str = ""  # for the user


class Transport(Protocol):
    """Sends bytes once. Never raises, but for mistakes of ours."""

    def pack(self, data: bytes) -> bytes:
        """What is done once for all attempts: compression."""

    def send(self, packed: bytes, timeout: float) -> Reply: ...

    def close(self) -> None:
        """Break off what is under way, from another thread, where the library can."""


class Ending:
    """Set once, when the program ends: waits are cut short and deadlines drawn in."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._deadline = float("inf")

    def begin(self, deadline: float) -> None:
        self._deadline = deadline
        self._event.set()

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._deadline

    def limit(self, deadline: float) -> float:
        return min(deadline, self._deadline)

    def wait(self, seconds: float) -> None:
        """Sleep that long, or until the ending begins; once it has begun, no longer than to its deadline."""
        if not self._event.is_set():
            self._event.wait(max(0.0, seconds))
        else:
            time.sleep(max(0.0, min(seconds, self._deadline - time.monotonic())))


class Client:
    def __init__(self, transport: Transport, timeout: float, ending: Ending) -> None:
        self._transport = transport
        self._timeout = timeout
        self._ending = ending
        self._not_before = 0.0  # the server asked for quiet until then

    def export(self, data: bytes) -> Reply:
        """Send until it is accepted, refused for good, or too late. The last reply says how it went."""
        if self._not_before > time.monotonic():
            self._ending.wait(self._not_before - time.monotonic())
        packed = self._transport.pack(data)
        deadline = time.monotonic() + self._timeout
        backoff = FIRST_BACKOFF
        while True:
            remaining = self._ending.limit(deadline) - time.monotonic()
            if remaining <= 0:
                return Reply(ok=False, retry=True, problem="no time left")
            reply = self._transport.send(packed, remaining)
            if reply.ok or not reply.retry:
                return reply
            pause = self._pause(reply, backoff)
            if time.monotonic() + pause >= self._ending.limit(deadline):
                return reply
            self._ending.wait(pause)
            backoff = min(backoff * 2, MAX_BACKOFF)

    def _pause(self, reply: Reply, backoff: float) -> float:
        if reply.retry_after is None:
            return backoff * random.uniform(0.5, 1.5)
        pause = min(reply.retry_after, MAX_THROTTLE)
        self._not_before = time.monotonic() + pause
        return pause
