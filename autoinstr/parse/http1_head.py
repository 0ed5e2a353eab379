"""Request lines of HTTP/1 (RFC 9112, 3): where method and target lie, and the parts of the target.

In: the first bytes of many requests, as a matrix. Out: offsets, and the paths as texts. Never raises, whatever the
bytes are, and never looks beyond a head's own bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from autoinstr.parse import texts as tx
from autoinstr.parse.hosts import MAX_AUTHORITY
from autoinstr.parse.methods import CONNECT
from autoinstr.parse.texts import Texts

U64 = np.uint64

TRACEPARENT_SLOT = 192  # a traceparent from beyond the kept head lies here, over its last bytes (bpf/include/events.h)

_WINDOW = 128  # bytes of a head that nearly every request line fits in: the rest is looked at only where it does not
_METHOD_WINDOW = 64  # bytes within which a method must end
_VERSION = U64(int.from_bytes(b"HTTP/1.\0", "little"))
_VERSION_SIZE = 8
_SEVEN_BYTES = U64((1 << 56) - 1)
_LOWER = U64(0x2020202020202020)
_HTTP, _HTTPS = (U64(int.from_bytes(text, "little")) for text in (b"http://", b"https://"))
_SPACE, _SLASH, _QUESTION, _HASH, _LF, _CR = b" /?#\n\r"


class Heads:
    """The kept heads of n requests, end to end in a buffer that the next ones may use again."""

    def __init__(
        self,
        buffer: NDArray[np.uint8],
        head: NDArray[np.uint8],
        size: NDArray[np.uint16],
        traceparent: NDArray[np.uint16],
    ) -> None:
        count, self.width = head.shape
        # Whole words and values are read at once, from any byte on: some bytes must follow the last head.
        self.flat = buffer[: (count + 1) * self.width]
        self.bytes = self.flat[: -self.width].reshape(count, self.width)
        self.bytes[:] = head
        self.words = tx.sliding(self.flat, len(self.flat) - 8)
        self.start = np.arange(count) * self.width  # of each head in flat
        self.traceparent = traceparent.astype(np.int64)
        slot = np.where(self.traceparent == TRACEPARENT_SLOT, TRACEPARENT_SLOT, self.width)
        self.size = np.minimum(size, slot).astype(np.int64)  # bytes that are the head's own, without the slot

    def __len__(self) -> int:
        return len(self.start)


@dataclass(slots=True)
class Lines:
    """Where things lie in n request lines: offsets into the head. Where `fine` is False there is no request line."""

    fine: NDArray[np.bool_]
    whole: NDArray[np.bool_]  # the line ends within the head
    ended: NDArray[np.bool_]  # the target does
    method_size: NDArray[np.int64]
    target: NDArray[np.int64]
    query: NDArray[np.int64]  # the question mark, or the target's end
    end: NDArray[np.int64]  # of the target
    fields: NDArray[np.int64]  # where the next line begins
    version: NDArray[np.uint8]  # the digit after "HTTP/1." as a character, 0 if unknown


def read_lines(heads: Heads) -> Lines:
    """Find the parts of each request line."""
    lines = _read(heads, slice(None), _WINDOW)
    long = tx.marked(~lines.whole & (heads.size > _WINDOW))
    if len(long):
        again = _read(heads, long, heads.width)
        for column in fields(Lines):
            getattr(lines, column.name)[long] = getattr(again, column.name)
    return lines


def _read(heads: Heads, rows: slice | NDArray[np.intp], width: int) -> Lines:
    """Look at the first `width` bytes of some heads."""
    head, start, flat = heads.bytes[rows, :width], heads.start[rows], heads.flat
    limit = np.minimum(heads.size[rows], width)
    feed = tx.first_mark(tx.pack(head == _LF))
    whole = feed < limit
    end = np.where(whole, feed, limit)
    end -= whole & (flat.take(start + np.maximum(end - 1, 0)) == _CR)
    method_size = tx.first_mark(tx.pack(head[:, :_METHOD_WINDOW] == _SPACE))
    target = method_size + 1
    # The kernel side looks for the version at the end of the line, so there may be spaces within the target.
    word = heads.words[start + np.maximum(end - _VERSION_SIZE, 0)]
    digit = (word >> U64(56)).astype(np.uint8)
    stop = end - _VERSION_SIZE - 1
    ends_well = ((word & _SEVEN_BYTES) == _VERSION) & (digit - np.uint8(ord("0")) < 10)
    ends_well &= (stop > target) & (flat.take(start + np.maximum(stop, 0)) == _SPACE)
    stop = np.where(whole, stop, limit)
    ended = whole.copy()
    part = tx.marked(~whole & (target < limit))
    if len(part):
        space = head[part] == _SPACE
        space &= np.arange(width) >= target[part, None]
        stop[part] = np.minimum(tx.first_mark(tx.pack(space)), limit[part])
        ended[part] = stop[part] < limit[part]
    mark = tx.first_mark(tx.pack(head == _QUESTION))
    fine = (
        (method_size > 0)
        & (method_size < _METHOD_WINDOW)
        & (stop > target)
        & (mark > method_size)
        & (ends_well | ~whole)
    )
    query = np.minimum(mark, stop)
    version = np.where(fine & whole, digit, 0).astype(np.uint8)
    return Lines(fine, whole, ended, method_size, target, query, stop, feed + 1, version)


@dataclass(slots=True)
class Targets:
    """The parts of n request targets (RFC 9112, 3.2)."""

    path: Texts  # escaped, end to end; empty where the target has none
    whole: NDArray[np.bool_]  # nothing of the path is missing
    query: Texts  # in Heads.flat, after the question mark, as sent
    authority: Texts  # in Heads.flat; empty where the target has none


def read_targets(heads: Heads, lines: Lines, method: NDArray[np.int32]) -> Targets:
    """Take the targets apart."""
    at = heads.start + lines.target
    query, end = heads.start + lines.query, heads.start + lines.end
    parts = _Parts(at, query, end, lines.fine)
    query_size = np.where(lines.fine, np.maximum(end - query - 1, 0), 0)
    odd = tx.marked(lines.fine & (heads.flat.take(at) != _SLASH))
    if len(odd):
        is_connect = method[odd] == CONNECT
        query_size[odd[is_connect]] = 0
        parts.connect(odd[is_connect])
        parts.absolute(odd[~is_connect], heads)
        # Half a host is none.
        half = ~lines.ended & (parts.authority + parts.authority_size == end)
        parts.authority_size[half | (parts.authority_size > MAX_AUTHORITY)] = 0
    path, cut = tx.cut_before(tx.gather(heads.flat, parts.path, parts.path_size), _HASH)
    query_size[cut] = 0
    whole = lines.ended | (lines.query < lines.end)
    whole[cut] = True
    queries = Texts(heads.flat, query + 1, query_size)
    return Targets(tx.escape(path), whole, queries, Texts(heads.flat, parts.authority, parts.authority_size))


class _Parts:
    """Where path and authority lie in Heads.flat; at first as in the usual form, a path and nothing else."""

    def __init__(
        self, at: NDArray[np.int64], query: NDArray[np.int64], end: NDArray[np.int64], fine: NDArray[np.bool_]
    ) -> None:
        self._query, self._end = query, end
        self.path, self.path_size = at, np.where(fine, query - at, 0)
        self.authority, self.authority_size = at.copy(), np.zeros(len(at), np.int64)

    def connect(self, rows: NDArray[np.intp]) -> None:
        """CONNECT host:port."""
        self.authority_size[rows] = self._end[rows] - self.authority[rows]
        self.path_size[rows] = 0

    def absolute(self, rows: NDArray[np.intp], heads: Heads) -> None:
        """GET http://host/path, as clients of a proxy send it; other rows are left as they are."""
        word = heads.words[self.path[rows]] | _LOWER
        scheme = np.where(word == _HTTPS, 8, np.where(word & _SEVEN_BYTES == _HTTP, 7, 0))
        is_url = (scheme > 0) & (self.path[rows] + scheme <= self._end[rows])
        rows = rows[is_url]
        begin, query, start = self.path[rows] + scheme[is_url], self._query[rows], heads.start[rows]
        slashes = heads.bytes[rows] == _SLASH
        slashes &= np.arange(heads.width) >= (begin - start)[:, None]
        slash = start + tx.first_mark(tx.pack(slashes))
        self.authority[rows] = begin
        self.authority_size[rows] = np.minimum(slash, query) - begin
        # No path means "/" (RFC 9110, 4.2.3): the scheme's last slash will do.
        self.path[rows] = np.where(slash < query, slash, begin - 1)
        self.path_size[rows] = np.where(slash < query, query - slash, 1)
