"""Query strings without secrets.

In: query strings. Out: the same with `REDACTED` in place of each value whose key looks like that of a secret. Python
runs once for each key not seen before; what can't be judged is redacted.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

import numpy as np
from numpy.typing import NDArray

from autoinstr import semconv
from autoinstr.parse import texts as tx
from autoinstr.parse.table import Table
from autoinstr.parse.texts import Texts

MAX_KEYS = 4096  # different keys that are remembered, 12 bytes each; the values of further ones are redacted
MAX_KEY = 40  # bytes; longer ones are no keys that a person chose, rather a value without a key

_SECRET = re.compile(
    "token|key|secret|passw|pwd|sig|auth|code|session|sid$|cred|jwt|bearer|nonce|otp|ticket|assertion|verifier"
    "|hmac|csrf|xsrf|cookie"
)
_HARMLESS = re.compile("keywords?|authors?|(zip|postal|country|status|language)[-_]?code|design|keyboard|monkey")
_SEPARATORS = np.zeros(256, np.bool_)
_SEPARATORS[[ord("&"), ord(";")]] = True
_REPLACEMENT = np.frombuffer(semconv.REDACTED.encode(), np.uint8)


class Redactor:
    """Remembers which keys are harmless."""

    def __init__(self) -> None:
        self._table = Table()  # hash of a key -> 1 if its value is to be hidden

    def redact(self, queries: Texts) -> Texts:
        """The queries without secrets. They lie end to end, without their question mark, in printable ASCII."""
        data = queries.data
        if not len(data):
            return queries
        at, end = _pairs(queries)
        equals = np.append(tx.marked(data == ord("=")), len(data))
        key_end = np.minimum(equals[np.searchsorted(equals, at)], end)
        bare = key_end == end
        value_at = np.where(bare, at, key_end + 1)
        hidden = self._secret(data, at, key_end - at)
        # After a semicolon, of the same query, it may be the rest of a value that has one.
        inside = np.ones(len(data) + 1, np.bool_)
        inside[queries.at] = False
        hidden |= bare & inside[at] & (data[at - 1] == ord(";"))
        hidden &= end > value_at
        return _replace(queries, value_at[hidden], end[hidden])

    def _secret(self, data: NDArray[np.uint8], at: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.bool_]:
        keys = tx.hashes(tx.windows(data), at, size)
        verdict = self._table.find(keys)
        new = tx.marked((verdict < 0) & (size <= MAX_KEY))
        if len(new):
            for row in new[np.unique(keys[new], return_index=True)[1]].tolist():
                if len(self._table) >= MAX_KEYS:
                    break
                start = int(at[row])
                self._table.add(int(keys[row]), _looks_secret(data[start : start + int(size[row])].tobytes()))
            verdict[new] = self._table.find(keys[new])
        secret: NDArray[np.bool_] = (verdict != 0) | (size > MAX_KEY)
        return secret


def _looks_secret(key: bytes) -> bool:
    return bool(_SECRET.search(_HARMLESS.sub("", unquote_plus(key.decode("latin-1")).lower())))


def _pairs(queries: Texts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Begin and end of each `key=value`, in the order of the data."""
    data = queries.data
    separator = _SEPARATORS.take(data)
    begins = np.zeros(len(data) + 1, np.bool_)
    begins[1:] = separator
    begins[queries.at[queries.size > 0]] = True
    begins[-1] = False
    at = tx.marked(begins)
    end = np.append(at[1:], len(data))
    return at, end - separator[end - 1]


def _replace(queries: Texts, at: NDArray[np.int64], end: NDArray[np.int64]) -> Texts:
    """Put the replacement in place of each `data[at:end]`; these are in order and do not overlap."""
    if not len(at):
        return queries
    data, size = queries.data, len(_REPLACEMENT)
    piece_at = np.full(2 * len(at) + 1, len(data))
    piece_at[::2] = np.append(0, end)
    piece_size = np.full(len(piece_at), size)
    piece_size[::2] = np.append(at, len(data)) - piece_at[::2]
    out = tx.gather(np.append(data, _REPLACEMENT), piece_at, piece_size).data
    grown = np.append(0, np.cumsum(size - (end - at)))
    start = queries.at + grown[np.searchsorted(end, queries.at, "right")]
    stop = queries.at + queries.size
    return Texts(out, start, stop + grown[np.searchsorted(end, stop, "right")] - start)
