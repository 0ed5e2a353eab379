"""User-space mirror of `bpf/include/events.h`: the same records, as numpy types and ctypes structures.

`tests/bpf/test_abi.py` compiles the header and compares sizes and offsets.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

HEAD_SIZE = 256
TRACEPARENT_SIZE = 55


class Role(IntEnum):
    UNKNOWN = 0
    SERVER = 2
    CLIENT = 3


class Protocol(IntEnum):
    HTTP1 = 1
    HTTP2 = 2


class Family(IntEnum):
    NONE = 0
    UNIX = 1
    INET = 4
    INET6 = 6


class Error(IntEnum):
    """Beyond errno: why there is no complete response."""

    NONE = 0
    NO_RESPONSE = 1001
    TRUNCATED = 1002
    HTTP2 = 1100  # and above: the stream was reset, with error code `error - HTTP2`


EXCHANGE_HEAD_CUT = 1
EXCHANGE_BODY_ABOUT = 2
EXCHANGE_TLS = 4

TRACE = np.dtype([("id", "u1", 16), ("span", "u1", 8), ("parent", "u1", 8), ("peer", "<u4"), ("flags", "<u4")])

TRACE_SAMPLED = 1
TRACE_DECIDED = 2
TRACE_PEER = 4
TRACE_INSIDE = 8
TRACE_OWN = 16
TRACE_KEPT = 32
TRACE_USED = 64
TRACE_ORPHAN_SHIFT = 8
TRACE_ORPHAN_MASK = 15 << TRACE_ORPHAN_SHIFT

EXCHANGE = np.dtype(
    [
        ("connection", "<u8"),
        ("request_start", "<u8"),
        ("request_end", "<u8"),
        ("response_start", "<u8"),
        ("response_end", "<u8"),
        ("request_body", "<u8"),
        ("response_body", "<u8"),
        ("trace", TRACE),
        ("name", "<u8"),
        ("pid", "<u4"),
        ("tid", "<u4"),
        ("sequence", "<u4"),
        ("status", "<u2"),
        ("head_size", "<u2"),
        ("protocol", "u1"),
        ("role", "u1"),
        ("family", "u1"),
        ("flags", "u1"),
        ("local_port", "<u2"),
        ("remote_port", "<u2"),
        ("local", "u1", 16),
        ("remote", "u1", 16),
        ("fd", "<u4"),
        ("error", "<u2"),
        ("traceparent", "<u2"),
        ("head", "u1", HEAD_SIZE),
    ]
)

HTTP2_FRAGMENT = 224
HTTP2_PART = np.dtype(  # what `head` is in exchanges of HTTP/2
    [
        ("id", "<u8"),
        ("stream", "<u4"),
        ("number", "<u4"),
        ("request_frames", "<u4"),
        ("response_frames", "<u4"),
        ("size", "<u2"),
        ("flags", "<u2"),
        ("unused", "<u4"),
        ("fragment", "u1", HTTP2_FRAGMENT),
    ]
)

HTTP2_REQUEST = 1
HTTP2_FIRST = 2
HTTP2_LAST = 4
HTTP2_PROMISE = 8
HTTP2_ENDED = 16
HTTP2_MESSAGES = 32
HTTP2_TABLE_OLD = 64
HTTP2_UPGRADED = 128
HTTP2_JOINED = 1024
HTTP2_FIELDS = 256
HTTP2_TABLE = 512

HTTP2_ENTRY = np.dtype(  # what `fragment` is then
    [
        ("left", "<u2"),
        ("of", "<u2"),
        ("name_size", "<u2"),
        ("value_size", "<u2"),
        ("name", "u1", 56),
        ("value", "u1", 160),
    ]
)


class ProcessKind(IntEnum):
    FORK = 1
    EXEC = 2
    EXIT = 3
    LISTEN = 4
    MAP = 5


PROCESS = np.dtype(
    [
        ("time", "<u8"),
        ("kind", "<u4"),
        ("pid", "<u4"),
        ("parent", "<u4"),
        ("port", "<u2"),
        ("args_size", "<u2"),
        ("filename", "S128"),
        ("args", "u1", 360),
    ]
)


class NameKind(IntEnum):
    PATTERN = 1
    ROUTE = 2
    CHI = 3
    RPC = 4


GO_LAYOUT = np.dtype(  # struct go_layout in bpf/maps.h
    [
        *[
            (name, "<u2")
            for name in (
                *("goid", "parent", "client", "server", "state", "stream", "id"),
                *("rpc_server", "rpc_id", "rpc_method", "rpc_client", "rpc_of", "rpc_made", "rpc_by_pointer"),
                *("x_server", "x_state", "x_stream", "x_id", "inflater", "deflater", "echo_path"),
            )
        ],
        *[(name, "<u2") for name in ("machine", "processor", "left")],
        ("last_id", "<i4"),
        *[(name, "<u2") for name in ("ids", "unused")],
    ]
)
_HTTP2_CLIENT = (
    ("call", "<u4"),
    *[(name, "<u2") for name in ("self", "framer", "writer", "encoder", "conn", "unused")],
)
GO_FIELDS = np.dtype(  # struct go_fields there
    [
        *[(name, "<u4") for name in ("head", "buffered_write", "client_write", "tcp_close", "tls_close")],
        *[(f"{client}_{name}", kind) for client in ("h2", "x", "rpc") for name, kind in _HTTP2_CLIENT],
        *[(name, "<u2") for name in ("rpc_buffer", "rpc_buffered", "rpc_by_handle", "client")],
    ]
)
NAME_SIZE = 192
NAME = np.dtype([("size", "<u2"), ("kind", "u1"), ("cut", "u1"), ("text", "u1", NAME_SIZE), ("slack", "u1", NAME_SIZE)])


class Counter(IntEnum):
    EXCHANGES = 0
    RING_FULL = 1
    AGGREGATE_FULL = 2
    PROCESS_RING_FULL = 3
    ORPHAN_RESPONSE = 4
    LOST_SYNC = 5
    PIPELINE_FULL = 6
    UNREADABLE = 7
    CONNECTIONS = 8
    STEPS_EXHAUSTED = 9
    TLS_CALL_LOST = 10
    STREAM_LOST = 11


COUNTERS = 16

OVERFLOW_KEY = np.dtype([("pid", "<u4"), ("method", "S4"), ("status", "<u2"), ("role", "u1"), ("protocol", "u1")])
OVERFLOW = np.dtype(
    [
        ("count", "<u8"),
        ("duration_sum", "<u8"),
        ("request_sum", "<u8"),
        ("response_sum", "<u8"),
        ("duration", "<u8", 16),
        ("request", "<u8", 11),
        ("response", "<u8", 11),
    ]
)
