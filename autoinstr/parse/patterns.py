"""The route patterns that users write, as one automaton for all of them.

In: patterns as text; paths. Out: the route number of each path that a pattern matches. Never learns from traffic: the
automaton is made once, from the configuration, and each path costs a look-up a segment however many patterns there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from autoinstr.errors import UsageError
from autoinstr.parse.paths import Paths, edge, edges, hash_of
from autoinstr.parse.table import Table
from autoinstr.parse.texts import marked
from autoinstr.parse.words import MAX_WORD

MAX_SEGMENTS = 12  # of a pattern; real interfaces have less than ten
MAX_PATTERNS = 1000  # of a service
MAX_STATES = 20000  # of the automaton: about one a segment of each pattern, more where wildcards overlap

ANY, REST = "*", "**"
_Place = tuple[int, int]  # a pattern by its index, and how many of its segments have matched


def split_pattern(pattern: str) -> tuple[str, ...]:
    """The segments of a pattern: `*` stands for one of any name, `**` at the end for any rest. Raises UsageError."""
    if not (pattern.startswith("/") and pattern.isascii() and pattern.isprintable() and " " not in pattern):
        raise UsageError(f"route pattern {pattern!r} must begin with / and be printable ASCII without spaces")
    *parts, last = pattern[1:].split("/")
    if len(parts) >= MAX_SEGMENTS:
        raise UsageError(f"route pattern {pattern!r} has more than {MAX_SEGMENTS} segments")
    segments = [_segment(part, pattern) for part in parts]
    if REST in segments:
        raise UsageError(f"route pattern {pattern!r}: ** may only stand at the end")
    # As with Beyla, a star at the end matches all that follows.
    return (*segments, REST if last in (ANY, REST) else _segment(last, pattern))


def _segment(part: str, pattern: str) -> str:
    if (part.startswith("{") and part.endswith("}")) or (part.startswith(":") and len(part) > 1):
        return ANY
    if len(part) > MAX_WORD:
        raise UsageError(f"route pattern {pattern!r}: a segment has more than {MAX_WORD} characters")
    return part


class Patterns:
    """A state of the automaton is the set of patterns that fit so far, and how far: there is no going back.

    State 0 is the end of all hope: no pattern fits.
    """

    def __init__(self, number: Callable[[str], int]) -> None:
        self._number = number  # gives a route's text its number
        self._table = Table()  # (state, segment) -> state, where the segment is not like any other
        self._other = np.zeros(1, np.int32)  # by state: the next one for any other segment
        self._accepts = np.zeros(1, np.int32)  # by state: route number if the path ends here, else 0
        self._starts: dict[tuple[str, ...], int] = {(): 0}

    def start(self, patterns: Sequence[str]) -> int:
        """The state to start from for these patterns. They are compiled at the first call: raises UsageError."""
        key = tuple(patterns)
        if key not in self._starts:
            if len(key) > MAX_PATTERNS:
                raise UsageError(f"routes: {len(key)} patterns for one service, more than {MAX_PATTERNS}")
            self._starts[key] = self._compile(key)
        return self._starts[key]

    def find(self, paths: Paths, state: NDArray[np.int32]) -> NDArray[np.int32]:
        """The number of the route of each path, walked from its state on; 0: no pattern matches."""
        state = state.copy()
        rows = marked(state)
        depth = 0
        while len(rows):
            before = state.take(rows)
            after = self._table.find(edges(before, paths.hashes.take(paths.first.take(rows) + depth)))
            state[rows] = after = np.where(after >= 0, after, self._other.take(before))
            depth += 1
            rows = rows.compress((after > 0) & (paths.count.take(rows) > depth))
        return self._accepts.take(state)

    def _compile(self, names: tuple[str, ...]) -> int:
        """Add the states for these patterns (subset construction); returns the first one."""
        patterns = [split_pattern(name) for name in names]
        base = len(self._other)
        first = frozenset((index, 0) for index in range(len(patterns)))
        states: dict[frozenset[_Place], int] = {frozenset(): 0, first: base}
        waiting = [first]

        def follow(places: frozenset[_Place], segment: str | None) -> int:
            after = _step(patterns, places, segment)
            if after not in states:
                if base + len(waiting) >= MAX_STATES:
                    raise UsageError("routes: the wildcards of these patterns overlap too much: use fewer of them")
                states[after] = base + len(waiting)
                waiting.append(after)
            return states[after]

        other = []
        for places in waiting:  # grows while we go
            other.append(follow(places, None))
            for segment in sorted(_named(patterns, places)):
                target = follow(places, segment)
                if target != other[-1]:
                    self._table.add(edge(states[places], hash_of(segment)), target)
        self._other = np.append(self._other, np.array(other, np.int32))
        accepts = [self._accepted(names, patterns, places) for places in waiting]
        self._accepts = np.append(self._accepts, np.array(accepts, np.int32))
        return base

    def _accepted(self, names: tuple[str, ...], patterns: list[tuple[str, ...]], places: frozenset[_Place]) -> int:
        """Of the patterns that match a path which ends here, the one that is more literal further left."""
        ended = [index for index, at in places if at >= len(patterns[index]) or patterns[index][at] == REST]
        if not ended:
            return 0
        best = min(ended, key=lambda index: ([_RANK.get(part, 0) for part in patterns[index]], index))
        return self._number(names[best])


_RANK = {ANY: 1, REST: 2}


def _named(patterns: list[tuple[str, ...]], places: frozenset[_Place]) -> set[str]:
    """The segments that may lead elsewhere than any other one does; the empty one is special to wildcards."""
    named = {patterns[index][at] for index, at in places if at < len(patterns[index])}
    return (named - {ANY, REST}) | {""}


def _step(patterns: list[tuple[str, ...]], places: frozenset[_Place], segment: str | None) -> frozenset[_Place]:
    """What fits after one more segment; None stands for one that no pattern names."""
    after: set[_Place] = set()
    for index, at in places:
        size = len(patterns[index])
        if at >= size:
            # A slash too much at the end is forgiven, once.
            if at == size and segment == "" and patterns[index][-1] != "":
                after.add((index, at + 1))
        elif patterns[index][at] == REST:
            after.add((index, at))
        elif patterns[index][at] == segment or (patterns[index][at] == ANY and segment != ""):
            after.add((index, at + 1))
    return frozenset(after)
