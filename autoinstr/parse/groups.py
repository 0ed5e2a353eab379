"""The table of groups: what many requests share is made once, then found again by hash.

In: a 64-bit key per request and, for keys never seen before, the group itself. Out: indices into `Groups.groups`.
Never grows without bound: beyond its limits requests are counted in one overflow group per service and kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from autoinstr.health import Health, Loss
from autoinstr.model import Group, Kind
from autoinstr.parse.table import Table
from autoinstr.parse.texts import marked

# A group costs about 1.5 KB here and its own series in the metrics: 12 MB at worst.
MAX_GROUPS = 8192
# So that one service with a wild label can't take the table from the others.
MAX_GROUPS_PER_SERVICE = 2048

MakeGroup = Callable[[int], Group]  # row -> its group
MakeOverflow = Callable[[int, Kind, bool], Group]  # service, kind, failed -> a group


class Groups:
    """Bounded table of `Group`; an index into `groups` never changes its meaning."""

    def __init__(
        self, health: Health, *, max_groups: int = MAX_GROUPS, max_groups_per_service: int = MAX_GROUPS_PER_SERVICE
    ) -> None:
        self._health = health
        self._max_groups = max_groups
        self._max_groups_per_service = max_groups_per_service
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget all groups. `groups` is another list from now on."""
        self.groups: list[Group] = []
        self._table = Table()
        self._of_service: Counter[int] = Counter()
        self._full = np.zeros(1, np.bool_)  # by service: no more groups for it
        self._overflow: dict[tuple[str, int, Kind, bool], int] = {}

    def find(
        self,
        keys: NDArray[np.uint64],
        service: NDArray[np.int32],
        kind: NDArray[np.uint8],
        *,
        make: MakeGroup,
        failed: Callable[[], NDArray[np.bool_]],
        make_overflow: MakeOverflow,
        refused: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int32]:
        """The group of each row. Equal keys must mean equal groups; `refused` rows go to the overflow group.

        `failed` is asked only where some have none.
        """
        self._know(service)
        index = self._table.find(keys)
        if refused is not None:
            index[refused] = -1
        missing = marked(index < 0)
        if not len(missing):
            return index
        wanted = ~self._full[service[missing]]
        if refused is not None:
            wanted &= ~refused[missing]
        new = missing[wanted]
        _, first = np.unique(keys[new], return_index=True)
        for row in new[np.sort(first)].tolist():
            self._add(int(keys[row]), int(service[row]), make, row)
        index[new] = self._table.find(keys[new])
        self._fold(index, service, kind, failed, make_overflow)
        return index

    def _know(self, service: NDArray[np.int32]) -> None:
        known = int(service.max(initial=0)) + 1
        if known > len(self._full):
            full = np.full(2 * known, len(self._table) >= self._max_groups)
            full[: len(self._full)] = self._full
            self._full = full

    def _add(self, key: int, service: int, make: MakeGroup, row: int) -> None:
        if self._full[service]:
            return
        self._table.add(key, len(self.groups))
        self.groups.append(make(row))
        self._of_service[service] += 1
        if self._of_service[service] >= self._max_groups_per_service:
            self._full[service] = True
        if len(self._table) >= self._max_groups:
            self._full[:] = True

    def _fold(
        self,
        index: NDArray[np.int32],
        service: NDArray[np.int32],
        kind: NDArray[np.uint8],
        failed: Callable[[], NDArray[np.bool_]],
        make_overflow: MakeOverflow,
    ) -> None:
        """Rows without a group get the overflow group of their service."""
        rows = marked(index < 0)
        if not len(rows):
            return
        self._health.lose(Loss.CARDINALITY, len(rows))
        which = (service[rows].astype(np.int64) << 16) | (kind[rows].astype(np.int64) << 1) | failed()[rows]
        different, inverse = np.unique(which, return_inverse=True)
        made = [self._overflow_group(code >> 16, Kind(code >> 1 & 0xFF), bool(code & 1), make_overflow) for code in
                different.tolist()]  # fmt: skip
        index[rows] = np.array(made, np.int32)[inverse]

    def _overflow_group(self, service: int, kind: Kind, failed: bool, make: MakeOverflow) -> int:
        group = make(service, kind, failed)
        name = (group.metric, service, kind, failed)
        if name not in self._overflow:
            self._overflow[name] = len(self.groups)
            self.groups.append(group)
        return self._overflow[name]
