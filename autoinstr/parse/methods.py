"""Methods of HTTP (RFC 9110, 9): a number for each, those that clients invent included, up to a bound.

In: methods as bytes, many at once or one. Out: numbers, and names by number. Never trusts the bytes.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from autoinstr import semconv
from autoinstr.parse import texts as tx
from autoinstr.parse.table import Table
from autoinstr.parse.texts import Texts

MAX_METHOD = 16  # bytes; a longer one is not kept for http.request.method_original
MAX_METHODS = 64  # methods that are told apart, those of HTTP included; clients may invent endlessly many

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
OTHER = 0  # number of a method that is none, or one too many
HEAD, POST = 1 + _METHODS.index("HEAD"), 1 + _METHODS.index("POST")
CONNECT = 1 + _METHODS.index("CONNECT")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2


class Methods:
    """Numbers for methods: `names[number]` is its name, and as it was sent where that is another."""

    def __init__(self) -> None:
        self.names: list[tuple[str, str]] = [(semconv.METHOD_OTHER, "")]
        self._table = Table()
        for name in _METHODS:
            data = np.frombuffer(name.encode(), np.uint8)
            key = tx.hashes(tx.windows(data), np.zeros(1, np.int64), np.array([len(data)]))
            self._table.add(int(key[0]), len(self.names))
            self.names.append((name, ""))

    def find(self, words: NDArray[np.uint64], methods: Texts, known: NDArray[np.bool_]) -> NDArray[np.int32]:
        """The number of each method; OTHER where it is not `known`. `words`: `sliding` of their data."""
        known = known & (methods.size <= MAX_METHOD)
        keys = tx.hashes(words, methods.at, np.where(known, methods.size, 0))
        number = self._table.find(keys)
        number[~known] = OTHER
        new = tx.marked(number < 0)
        if len(new):
            for row in new[np.sort(np.unique(keys[new], return_index=True)[1])].tolist():
                if len(self._table) >= MAX_METHODS:
                    break
                self._learn(int(keys[row]), methods.text(row))
            number[new] = np.maximum(self._table.find(keys[new]), OTHER)
        return number

    def number(self, method: bytes) -> int:
        """The number of one method."""
        data = np.frombuffer(method, np.uint8)
        one = Texts(data, np.zeros(1, np.int64), np.array([len(data)]))
        return int(self.find(tx.windows(data), one, np.array([len(data) > 0]))[0])

    def _learn(self, key: int, method: bytes) -> None:
        if _TOKEN.fullmatch(method):
            self._table.add(key, len(self.names))
            self.names.append((semconv.METHOD_OTHER, method.decode("ascii")))
        else:
            self._table.add(key, OTHER)
