"""Who a client asked for: host and port from the authority that it sent (RFC 9110, 7.2).

In: heads, and where in them the authority lies or may lie. Out: a number for each, and (host, port) by number. Never
trusts the text: what is no host name or address counts as none.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv6Address

import numpy as np
from numpy.typing import NDArray

from autoinstr.parse import texts as tx
from autoinstr.parse.table import Table
from autoinstr.parse.texts import Texts

MAX_HOSTS = 4096  # different authorities, about 300 bytes each; a client that calls more has no use for them as labels
MAX_AUTHORITY = 128  # bytes; a longer one leaves no room for it in the head that is kept

UNKNOWN = 0  # number of "no host that could be used"
REFUSED = -1  # number of hosts beyond MAX_HOSTS
_HOST = np.uint64(int.from_bytes(b"host:", "little"))
_LOWER = np.uint64(0x20202020)  # over four letters
_FIVE_BYTES = np.uint64((1 << 40) - 1)
_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._")


class Hosts:
    """Numbers for authorities. `names[number]` is the host, `ports[number]` its port, 0 if it had none."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget all: nothing refers to a number any more."""
        self.names: list[str] = [""]
        self.ports = np.zeros(1, np.int64)
        self._numbers: dict[tuple[str, int], int] = {("", 0): UNKNOWN}
        self._table = Table()

    def find(self, authorities: Texts) -> NDArray[np.int32]:
        """The number of each authority, of at most MAX_AUTHORITY bytes; as many must follow in the data."""
        words = tx.sliding(authorities.data, len(authorities.data) - 7)
        keys = tx.hashes(words, authorities.at, authorities.size)
        number = self._table.find(keys)
        number[authorities.size == 0] = UNKNOWN
        new = tx.marked(number < 0)
        if len(new):
            for row in new[np.sort(np.unique(keys[new], return_index=True)[1])].tolist():
                if len(self._table) >= MAX_HOSTS:
                    break
                self._table.add(int(keys[row]), self._learn(authorities.text(row)))
            number[new] = self._table.find(keys[new])
        return number

    def _learn(self, authority: bytes) -> int:
        host, port = split_authority(authority.decode("latin-1"))
        number = self._numbers.setdefault((host, port), len(self.names))
        if number == len(self.names):
            self.names.append(host)
            self.ports = np.append(self.ports, port)
        return number


def split_authority(text: str) -> tuple[str, int]:
    """Host and port (0: none given) of an authority; ("", 0) if it is not valid."""
    host, port = text.rpartition("@")[2].strip().lower(), ""
    if host.startswith("["):
        host, bracket, port = host[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return "", 0
        port = port[1:]
        try:
            host = IPv6Address(host).compressed
        except AddressValueError:
            return "", 0
    else:
        host, _, port = host.partition(":")
        host = host.removesuffix(".")
        if not _NAME.issuperset(host):
            return "", 0
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        return "", 0
    return (host, int(port or 0)) if host else ("", 0)


def find_field(
    heads: NDArray[np.uint8], size: NDArray[np.int64], fields: NDArray[np.int64], flat: NDArray[np.uint8]
) -> Texts:
    """The value of each head's Host field, empty where it is not there whole.

    `heads` is (n, w) of which `size` bytes of each are valid; its header fields begin at `fields`. `flat` are the same
    bytes end to end, MAX_AUTHORITY more behind them.
    """
    count, width = heads.shape
    base = np.arange(count) * width
    # Most clients send it first.
    first = np.minimum(fields, width)
    found = (tx.sliding(flat, count * width + 1)[base + first] | _LOWER) & _FIVE_BYTES == _HOST
    start = np.where(found, first + 5, width)
    rest = tx.marked(~found)
    if len(rest):
        start[rest] = _search(heads[rest])
    start += flat.take(base + start) == ord(" ")
    value = _until_space(flat, base + start, 64)
    rest = tx.marked(value == 64)
    if len(rest):
        value[rest] = _until_space(flat, (base + start)[rest], MAX_AUTHORITY)
    whole = (start + value < size) & (value < MAX_AUTHORITY)
    return Texts(flat, base + start, np.where(whole, value, 0))


def _search(heads: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Where the value of the Host field begins in each head; its width if there is no such field."""
    count, width = heads.shape
    flat = np.append(heads.ravel(), np.zeros(8, np.uint8))
    ahead = [flat[offset : count * width + offset] for offset in range(6)]
    mark = (ahead[0] == ord("\n")) & (ahead[5] == ord(":"))
    for offset, letter in enumerate(b"host", 1):
        mark &= ahead[offset] | 32 == letter
    return np.minimum(tx.first_mark(tx.pack(mark.reshape(count, width))) + 6, width)


def _until_space(flat: NDArray[np.uint8], at: NDArray[np.int64], room: int) -> NDArray[np.int64]:
    """Number of bytes from `at` on before the first one that no authority holds; at most `room`, a multiple of 64."""
    # One element is a whole authority: numpy copies each with one memcpy.
    values = np.ndarray((len(flat) - room + 1,), np.dtype(("V", room)), flat, strides=(1,))
    raw = values[at].view(np.uint8).reshape(len(at), room)
    return tx.first_mark(tx.pack((raw < 33) | (raw > 126)))
