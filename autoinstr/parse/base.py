"""The contract of a protocol: how bytes of exchanges become columns of requests.

A protocol is one file in `protocols/` and one line in `registry.py`; nobody else names it.

1. `parse` gets exchanges of its own protocol only, server and client side mixed, at least one, and the index of each
   one's service. It returns columns with a row for each request, in the order of the exchanges that end them: where an
   exchange is a whole request, for each exchange; else `Parsed.rows` says for which. None that ends a request may be
   left out, and none may disturb another.
2. The bytes are hostile. No exchange, however broken, raises: what can't be understood becomes a request with as
   little as is known (counted as Loss.PARSE_ERROR), so that counts stay exact.
3. Work per request is array work. Python runs once for each thing not seen before (a group, a path's node, a host),
   and the number of such things is bounded by a named MAX_ constant, with the reason beside it. The cost of a request
   does not depend on whether its path was seen before.
4. No I/O, no clock: times come with the record. State is only what has been learned (tables above), and, where requests
   come in parts, what is known of those that have not ended: bounded too.
5. Texts that leave are printable ASCII: other bytes are percent-encoded. Secrets don't leave: no header values beyond
   trace context and host, query strings only if asked for, and redacted.
6. What requests share goes into a `Group`, names and all (semantic conventions): later stages know no protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoinstr.health import Health
from autoinstr.model import Name, Renamed, Service
from autoinstr.parse.groups import Groups
from autoinstr.parse.routes import RouteOptions
from autoinstr.parse.texts import Texts
from autoinstr.parse.traceparent import Parents

Batch: TypeAlias = NDArray[Any]  # of EXCHANGE records (`capture/abi.py`)


def some(batch: Batch, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Batch:
    """A copy of some of the records: each as so many bytes, for field by field it takes ten times as long."""
    whole: Batch = batch.view(np.dtype(("V", batch.itemsize)))[rows].view(batch.dtype)
    return whole


@dataclass(slots=True)
class Context:
    """What protocols are made with."""

    groups: Groups
    routes: RouteOptions
    health: Health
    services: Sequence[Service]  # by index; grows while we run, and may be exchanged: see `model.Follower`
    names: Mapping[int, Name]  # by key: what programs call their requests; grows, too
    queries: bool  # keep query strings, redacted


@dataclass(slots=True)
class Parsed:
    """What only the protocol knows of n requests."""

    group: NDArray[np.int32]
    text: Texts
    query: Texts
    parents: Parents
    rows: NDArray[np.intp] | None = None  # which of the exchanges each is told by, ascending; None: all of them
    renamed: Renamed | None = None

    def take(self, rows: NDArray[np.intp]) -> Parsed:
        """Some of the requests."""
        text, query, parents = self.text, self.query, self.parents
        return Parsed(
            self.group[rows],
            Texts(text.data, text.at[rows], text.size[rows]),
            Texts(query.data, query.at[rows], query.size[rows]),
            Parents(parents.valid[rows], parents.trace[rows], parents.span[rows], parents.flags[rows]),
            rows if self.rows is None else self.rows[rows],
            self.renamed,
        )


class ProtocolParser(Protocol):
    """See the contract above."""

    # Later exchanges depend on all earlier ones: also those of no service are wanted, and left out of what is told.
    needs_all: bool

    def parse(self, batch: Batch, service: NDArray[np.int32]) -> Parsed: ...

    def begin_anew(self) -> None:
        """Groups are others from now on: what only they referred to may be forgotten."""


MakeParser: TypeAlias = Callable[[Context], ProtocolParser]
