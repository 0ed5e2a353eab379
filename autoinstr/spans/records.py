"""Spans as plain records, for people and programs that read JSON.

In: a traced batch. Out: one dict for each sampled row, in order; `encoder.py` says the same in OTLP.

    traceId, spanId, parentSpanId  lower-case hex; parentSpanId is "" for a root span
    name                           "GET /users/*"
    kind                           "server" or "client"
    startTimeUnixNano, endTimeUnixNano  integers
    status                         {"code": "error"} or {"code": "unset"}
    attributes, resource           plain objects
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from autoinstr.model import Attributes, Group, Service, Traced
from autoinstr.semconv import URL_FULL, URL_QUERY
from autoinstr.spans.attributes import NO_ADDRESS, PATH_START, Keys, address_text, keys_of, url_before_path

NO_PARENT = bytes(8)


def span_records(traced: Traced, groups: list[Group], services: list[Service]) -> Iterator[dict[str, Any]]:
    """The sampled rows of a batch."""
    requests = traced.requests
    known: dict[int, tuple[Keys, str]] = {}
    for row in np.flatnonzero(traced.sampled).tolist():
        number = int(requests.group[row])
        group = groups[number]
        if number not in known:
            known[number] = keys_of(group), url_before_path(group)
        parent = traced.parent_id[row].tobytes()
        yield {
            "traceId": traced.trace_id[row].tobytes().hex(),
            "spanId": traced.span_id[row].tobytes().hex(),
            "parentSpanId": "" if parent == NO_PARENT else parent.hex(),
            "name": group.name,
            "kind": group.kind.name.lower(),
            "startTimeUnixNano": int(requests.start[row]),
            "endTimeUnixNano": int(requests.end[row]),
            "status": {"code": "error" if group.failed else "unset"},
            "attributes": group.span_attributes | _own(traced, row, *known[number]),
            "resource": services[group.service].attributes,
        }


def _own(traced: Traced, row: int, keys: Keys, url: str) -> Attributes:
    """The attributes of one request. `url`: what comes before its path, if it is to have its URL."""
    requests = traced.requests
    own: Attributes = {
        keys.request_size: int(requests.request_size[row]),
        keys.response_size: int(requests.response_size[row]),
    }
    if port := int(requests.peer_port[row]):
        own[keys.port] = port
    if (address := requests.peer[row].tobytes()) != NO_ADDRESS:
        own[keys.address] = address_text(address)
    text = query = ""
    if keys.text and (size := requests.text_size[row]):
        at = requests.text_at[row]
        own[keys.text] = text = requests.text[at : at + size].tobytes().decode()
    if size := requests.query_size[row]:
        at = requests.query_at[row]
        own[URL_QUERY] = query = requests.query[at : at + size].tobytes().decode()
    if url and text.startswith(PATH_START):
        own[URL_FULL] = f"{url}{text}?{query}" if query else url + text
    return own
