"""Which parts of a path are names that a developer chose, and which are values: numbers, ids, hashes, random words.

In: path segments as texts. Out: one truth value each. A guess, kept on the safe side: a word that is taken for a value
makes a route less telling, a value that is taken for a word only costs a place in the tree of `routes.py`.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autoinstr.parse.texts import marked, windows

U64 = np.uint64
MAX_WORD = 56  # bytes; longer segments are values. Their marks fit a 64-bit word at any bit offset

_DIGITS_OF_A_VALUE = 5  # user12345, but not es2015
_SWITCHES_OF_A_VALUE = 4  # from digit to letter and back: a1b2c3, but not v1beta1
_SHORTEST_HASH = 6  # 3fa9c1, but not e2e
_SHORTEST_PURE_HASH = 16  # of hexadecimal letters only: effaced is a word
_SHORTEST_RANDOM_WORD = 8
_UNUSUAL_SHARE = 4  # a quarter of the letter pairs are unusual

# The letters that follow each letter in English and technical words, found by counting in documentation. Other pairs
# are hardly one in a hundred in words, but 40 in a hundred in random letters; a test holds the error rates.
_FOLLOWERS = {
    "a": "abcdefghiklmnprstuvwxy",
    "b": "abcdefijlmnoprstuy",
    "c": "abcdefhiklmnoprstuy",
    "d": "abcdefgijlmnoprstuvy",
    "e": "abcdefghiklmnopqrstuvwxy",
    "f": "abcdefilmnoprstuy",
    "g": "aceghilmnorstu",
    "h": "adeilmnorstuy",
    "i": "abcdefgklmnopqrstvxz",
    "j": "aeosu",
    "k": "adegilnostuw",
    "l": "abcdefgiklmnoprstuvy",
    "m": "abcdeilmnopstuy",
    "n": "abcdefghiklmnoprstuvy",
    "o": "abcdefgiklmnoprstuvwx",
    "p": "acdefghiklmnoprstuy",
    "q": "lsu",
    "r": "abcdefgiklmnoprstuvwy",
    "s": "abcdefghiklmnopqrstuvwy",
    "t": "abcdefghiklmnoprstuvwyz",
    "u": "abcdefgilmnoprst",
    "v": "aeio",
    "w": "aehilnors",
    "x": "aceiloptx",
    "y": "abcegilmnopst",
    "z": "aeio",
}


def _unusual_pairs() -> NDArray[np.bool_]:
    """By the two bytes of a pair as a little-endian number: two letters that seldom stand together."""
    unusual = np.zeros((256, 256), np.bool_)
    for first, followers in _FOLLOWERS.items():
        for second in "abcdefghijklmnopqrstuvwxyz":
            if second not in followers:
                for one in (first, first.upper()):
                    for two in (second, second.upper()):
                        unusual[ord(two), ord(one)] = True
    return unusual.ravel()


_UNUSUAL = _unusual_pairs()


class Words:
    """Judges pieces of one array of printable ASCII text; what is known of each byte is worked out once."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self._data = data

    def are_values(self, at: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.bool_]:
        """True for each piece `data[at : at + size]` that is rather a value than a name."""
        kept = np.minimum(size, MAX_WORD)
        pieces = _Pieces(at, kept)
        digit, letter = pieces.marks(self._digit), pieces.marks(self._letter)
        digits = np.bitwise_count(digit)
        switches = np.bitwise_count((digit & (letter >> U64(1))) | (letter & (digit >> U64(1))))
        plain = pieces.marks(self._plain)
        is_hex = ((digit | plain | pieces.marks(self._a_to_f)) == pieces.all) & ((digit | letter) != 0)
        value: NDArray[np.bool_] = (
            (size > MAX_WORD)
            | ((letter == 0) & (digit != 0))
            | (digits >= _DIGITS_OF_A_VALUE)
            | (switches >= _SWITCHES_OF_A_VALUE)
            | (is_hex & (((digits >= 2) & (kept >= _SHORTEST_HASH)) | (kept >= _SHORTEST_PURE_HASH)))
            | ((digit | letter | plain) != pieces.all)
        )
        open_question = marked(~value & (kept >= _SHORTEST_RANDOM_WORD))
        if len(open_question):
            # A pair's mark stands at its first letter: leave out the last letter's.
            pairs = _Pieces(at.take(open_question), kept.take(open_question) - 1)
            unusual = np.bitwise_count(pairs.marks(self._unusual))
            all_pairs = np.bitwise_count(letter & (letter >> U64(1))).take(open_question)
            value[open_question] = (unusual >= 2) & (unusual * _UNUSUAL_SHARE >= all_pairs)
        return value

    @cached_property
    def _lower(self) -> NDArray[np.uint8]:
        return self._data | np.uint8(32)

    @cached_property
    def _digit(self) -> NDArray[np.uint64]:
        return _bits((self._data - np.uint8(48)) < 10)

    @cached_property
    def _letter(self) -> NDArray[np.uint64]:
        return _bits((self._lower - np.uint8(97)) < 26)

    @cached_property
    def _a_to_f(self) -> NDArray[np.uint64]:
        return _bits((self._lower - np.uint8(97)) < 6)

    @cached_property
    def _plain(self) -> NDArray[np.uint64]:
        """Punctuation of names. Other bytes (escapes, mail addresses, key=value, lists, parameters) are data."""
        data = self._data
        return _bits((data - np.uint8(ord("-")) < 2) | (data == ord("_")) | (data == ord("~")) | (data == ord(":")))

    @cached_property
    def _unusual(self) -> NDArray[np.uint64]:
        padded = np.append(self._data, np.zeros(2, np.uint8))
        return _bits(_UNUSUAL.take(np.ndarray((len(self._data),), np.dtype("<u2"), padded, strides=(1,))))


def _bits(marks: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Marks on bytes, as the 64 bits from each eighth mark on."""
    return windows(np.packbits(marks, bitorder="little")).copy()


class _Pieces:
    """Pieces of the data, of at most MAX_WORD bytes."""

    def __init__(self, at: NDArray[np.int64], size: NDArray[np.int64]) -> None:
        self._word, self._shift = at >> 3, (at & 7).astype(U64)
        self.all = (U64(1) << size.astype(U64)) - U64(1)  # as many bits as the piece has bytes

    def marks(self, bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The marks of each piece as one word: bit i tells about its ith byte."""
        return (bits.take(self._word) >> self._shift) & self.all
