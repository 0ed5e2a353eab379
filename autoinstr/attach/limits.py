"""Sizes of the kernel side's maps, each with its reason, and what they add up to."""

from __future__ import annotations

from dataclasses import dataclass

PAGE = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """All sizes are entries, but for the rings, which are bytes and powers of two.

    Where a kernel's tables hold less than they say, they get more (`loader.entries`).
    """

    # 21,000 exchanges: a fifth of a second at 100,000 requests/s, and the reader is woken at a third
    exchange_ring: int = 8 << 20
    # 512 births and ends of processes between two looks
    process_ring: int = 256 << 10
    # connections with a request in flight at the same time; idle ones that are pushed out are found again
    connections: int = 8192
    # pipelined requests that wait for their response, of all connections
    pipelined: int = 3072
    # HTTP/2 connections; idle ones that are pushed out are found again
    http2_connections: int = 1536
    # requests in flight on them, of all connections
    streams: int = 8192
    # threads that use a TLS library, those that wait in a call of it included
    tls_threads: int = 8192
    # of them, those that are being looked at this very moment
    tls_works: int = 256
    # reads of TLS that the session which they are for has not met yet
    ciphertexts: int = 1024
    # texts that programs call their requests by, and that user space is about to read
    names: int = 1024
    # what libuv's thread pools have to do for requests
    pool_works: int = 1024
    # threads and goroutines that serve requests
    contexts: int = 5312
    # calls that the target at the other end has not met yet
    offers: int = 2048
    # (process, method, status) combinations that can be told apart while the ring is full
    aggregates: int = 1024

    def wake_every(self, record: int) -> int:
        """Exchanges after which the reader is woken: a third of the ring, for large batches cost less."""
        return max(1, self.exchange_ring // (record + 8) // 3)
