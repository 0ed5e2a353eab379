"""What is counted apart: a group and, for clients, the end that they called, since its name does not say who that is.

In: batches. Out: the number of each request's series. Never grows without bound: beyond MAX_CALLED ends, what is called
is not told apart any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from autoinstr.model import Follower, Group, Kind, Requests, Service

MAX_CALLED = 16_384  # of pairs of group and end, 100 bytes each
MAX_SERIES = 65_535  # numbers are kept in 16 bits; groups are bounded far below
# odd numbers, so that a multiplication loses nothing
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))


@dataclass(frozen=True, slots=True)
class Series:
    """Requests that are alike."""

    group: Group
    number: int  # of the group; -1: counted by the kernel only, or from before
    address: bytes = b""  # the end that a client called; empty: not known
    port: int = 0
    peer: int = 0  # pid of the target there, when it was first called; 0: none is known
    service: Service | None = None  # of a series from before a restart, or of processes that ended long ago


_FIELDS = tuple(field.name for field in fields(Group) if field.name != "service")


def record_of(series: Series) -> bytes:
    """All of it but the service, as JSON; the same for equal ones."""
    values = [getattr(series.group, name) for name in _FIELDS]
    return msgspec.json.encode([*values, series.address.hex(), series.port])


def series_of(record: bytes, service: Service) -> Series:
    """The other way round."""
    *values, address, port = msgspec.json.decode(record)
    group = msgspec.convert(dict(zip(_FIELDS, values, strict=True)) | {"service": -1}, Group)
    return Series(group, -1, bytes.fromhex(address), port, service=service)


def _digest(what: bytes) -> bytes:
    """Of many that are remembered: a fortieth of their size."""
    return hashlib.blake2b(what, digest_size=16).digest()


class SeriesTable:
    def __init__(self, service_of: Callable[[Series], Service]) -> None:
        self._service_of = service_of
        self._restored: dict[bytes, int] = {}  # what a series was before a restart, or before others -> its number
        self.series: list[Series] = []
        self._free: list[int] = []  # numbers of series that nothing is left of
        self._groups = Follower[Group]()
        self._of_group = np.zeros(0, np.int32)  # by group, for servers and what is not told apart; -1: none yet
        self._called: dict[int, int] = {}  # hash of group, address and port -> series
        self._only_counted: dict[tuple[object, ...], int] = {}
        self._is_client = np.zeros(0, np.bool_)  # by group

    def begin_anew(self, services: Sequence[Service], used: NDArray[np.bool_]) -> None:
        """Groups and services are others from now on; `services`: the others. Series of services that are still there
        are found again by what they are. `used` tells by number of which series something is kept.
        """
        self._groups = Follower()
        self._only_counted.clear()
        self._restored = {key: number for key, number in self._restored.items() if self.series[number].service}
        for number, series in enumerate(self.series):
            if series.service is None:
                service, at = self._service_of(series), series.group.service
                if at < len(services) and services[at] is service:
                    self._restored[self._key(series)] = number
                else:
                    self.series[number] = replace(series, service=service)
        used[list(self._restored.values())] = True
        self._free = np.flatnonzero(~used[: len(self.series)])[::-1].tolist()

    def of(self, requests: Requests, groups: list[Group]) -> NDArray[np.int32]:
        """The series of each request. `groups`: see `model.Follower`."""
        more, anew = self._groups.more(groups)
        if anew:
            self._of_group, self._is_client = np.zeros(0, np.int32), np.zeros(0, np.bool_)
            self._called.clear()
        if more:
            self._of_group = np.append(self._of_group, np.full(len(more), -1, np.int32))
            self._is_client = np.append(self._is_client, [group.kind is Kind.CLIENT for group in more])
        found = self._of_group[requests.group]
        client = self._is_client[requests.group] & (requests.peer_port > 0)
        missing = (found < 0) & ~client
        if missing.any():
            for number in sorted(set(requests.group[missing].tolist())):
                self._of_group[number] = self._add(Series(groups[number], number))
            found = self._of_group[requests.group]
        if client.any():
            rows = np.flatnonzero(client)
            found[rows] = self._find_called(requests, rows, groups)
        return found

    def only_counted(self, key: tuple[object, ...], group: Group) -> int:
        """The series of requests that were only counted; `key` is equal for equal groups."""
        if key not in self._only_counted:
            self._only_counted[key] = self._add(Series(group, -1))
        return self._only_counted[key]

    def _find_called(self, requests: Requests, rows: NDArray[np.intp], groups: list[Group]) -> NDArray[np.int32]:
        address = np.ascontiguousarray(requests.peer[rows]).view(np.uint64)
        place = requests.group[rows].astype(np.uint64) << np.uint64(16) | requests.peer_port[rows].astype(np.uint64)
        peers = requests.places.peer_pid[rows] if requests.places else np.zeros(len(rows), np.uint32)
        keys = address[:, 0] * _MIX[0] ^ address[:, 1] * _MIX[1] ^ (place << np.uint64(1) | (peers > 0)) * _MIX[2]
        different, first, where = np.unique(keys, return_index=True, return_inverse=True)
        numbers = []
        for key, row, peer in zip(different.tolist(), rows[first].tolist(), peers[first].tolist(), strict=True):
            known = self._called.get(key)
            numbers.append(self._add_called(key, requests, row, groups, peer) if known is None else known)
        return np.array(numbers, np.int32)[where]

    def _add_called(self, key: int, requests: Requests, row: int, groups: list[Group], peer: int) -> int:
        number = int(requests.group[row])
        if len(self._called) < MAX_CALLED:
            address, port = requests.peer[row].tobytes(), int(requests.peer_port[row])
            self._called[key] = self._add(Series(groups[number], number, address, port, peer))
            return self._called[key]
        if self._of_group[number] < 0:
            self._of_group[number] = self._add(Series(groups[number], number))
        return int(self._of_group[number])

    def restore(self, record: bytes, service: bytes) -> int:
        """The number of a series that was kept elsewhere; both as JSON."""
        key = _digest(record + service)
        if key not in self._restored:
            series = series_of(record, msgspec.json.decode(service, type=Service))
            self._restored[key] = self._append(series)
        return self._restored[key]

    def _key(self, series: Series) -> bytes:
        return _digest(record_of(series) + msgspec.json.encode(self._service_of(series)))

    def _add(self, series: Series) -> int:
        """A new one, or what it was before a restart."""
        if self._restored and (number := self._restored.pop(self._key(series), -1)) >= 0:
            self.series[number] = series
            return number
        return self._append(series)

    def _append(self, series: Series) -> int:
        if self._free:
            number = self._free.pop()
            self.series[number] = series
            return number
        if len(self.series) < MAX_SERIES:
            self.series.append(series)
        return len(self.series) - 1
