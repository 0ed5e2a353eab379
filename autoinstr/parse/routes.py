"""`http.route`: from paths, of which there are endlessly many, to routes, of which there are few.

In: paths as texts, the service of each. Out: a number for each, and the route's text by number. First the user's
patterns (`patterns.py`), then what the program itself calls it (`names.py`), then a guess (`tree.py`). Numbers never
change their meaning, and there are only as many as patterns, names and nodes of the trees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autoinstr.errors import UsageError
from autoinstr.model import Name, Service
from autoinstr.parse.names import route_of
from autoinstr.parse.paths import cut
from autoinstr.parse.patterns import Patterns
from autoinstr.parse.table import Table
from autoinstr.parse.texts import Texts, marked
from autoinstr.parse.tree import Tree

HEURISTIC = "heuristic"
WILDCARD = "wildcard"
MODES = (HEURISTIC, WILDCARD)


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """How paths become routes: the same fields as `config.Routes`.

    In patterns `/users/{id}`, `/users/:id` and `/users/*/orders` match any one segment there; a `*` or `**` at the end
    matches all that follows. Where several match, the one that is more literal further left wins.
    """

    patterns: Sequence[str] = ()  # for all services
    by_service: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by service name; together with `patterns`
    mode: str = HEURISTIC  # of paths that no pattern matches; WILDCARD: all of them become "/**"
    max_children: int = 10  # of a node of the path tree, before it becomes "*"


class Routes:
    """Finds the route of each path; `names[number]` is its text, number 0 stands for no route.

    Raises UsageError for patterns that can't be used.
    """

    def __init__(
        self,
        options: RouteOptions,
        services: Callable[[], Sequence[Service]] = tuple,
        names: Mapping[int, Name] | None = None,
    ) -> None:
        if options.mode not in MODES:
            raise UsageError(f"route mode {options.mode!r} is unknown: use one of {', '.join(MODES)}")
        if options.max_children < 1:
            raise UsageError(f"routes: max_children is {options.max_children}, must be at least 1")
        self.names: list[str] = [""]
        self._numbers: dict[str, int] = {"": 0}
        self._mode = options.mode
        self._services = services
        self._met: Sequence[Service] = services()  # that the two arrays below are of
        self._patterns = Patterns(self._number)
        self._tree = Tree(self._number, options.max_children)
        # All are compiled now: a wrong one must be told at the start.
        self._any_start = self._patterns.start(options.patterns)
        self._starts = {
            name: self._patterns.start([*patterns, *options.patterns]) for name, patterns in options.by_service.items()
        }
        self._start = np.empty(0, np.int32)  # by service: state of the patterns to start from
        self._root = np.empty(0, np.int32)  # by service: root of its tree
        self._unmatched = self._number("/**")
        self._told = {} if names is None else names  # by key; grows while we run
        self._named = Table()  # by key: the number of its route

    def find(
        self,
        paths: Texts,
        service: NDArray[np.int32],
        *,
        found: NDArray[np.bool_],
        whole: NDArray[np.bool_],
        named: NDArray[np.int32] | None = None,
    ) -> NDArray[np.int32]:
        """The number of each path's route. Paths begin with a slash, are printable ASCII and lie end to end.

        `named` is the number of what the program itself calls the route, 0 if it does not.
        `found` is False for requests that the server has no resource for: they use the tree, but add only `*` to it.
        `whole` is False where the end of the path is missing.
        """
        if not len(paths):
            return np.empty(0, np.int32)
        self._know(service)
        pieces = cut(paths)
        route = self._patterns.find(pieces, self._start[service])
        rest = marked(route == 0)
        if named is not None:
            route[rest] = named[rest]
            rest = rest[named[rest] == 0]
        if self._mode == WILDCARD:
            route[rest] = self._unmatched
        elif len(rest):
            route[rest] = self._tree.find(pieces, rest, self._root[service[rest]], found[rest], whole[rest])
        return route

    def named(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The number of the route that each key is a name of; 0 for none."""
        number = self._named.find(keys)
        new = marked((number < 0) & (keys != 0))
        if len(new):
            for key in sorted(set(keys[new].tolist())):
                if key in self._told:
                    self._named.add(key, self._number(route_of(self._told[key])))
            number[new] = self._named.find(keys[new])
        number[number < 0] = 0
        return number

    def _number(self, name: str) -> int:
        number = self._numbers.setdefault(name, len(self.names))
        if number == len(self.names):
            self.names.append(name)
        return number

    def _know(self, service: NDArray[np.int32]) -> None:
        """Prepare for services not met before."""
        if (services := self._services()) is not self._met:
            self._met = services
            self._start = self._root = np.empty(0, np.int32)
            self._named = Table()
        new = range(len(self._root), int(service.max()) + 1)
        if not new:
            return
        # Without a list of services each is a service of its own.
        names = [services[index].name if index < len(services) else f"\0{index}" for index in new]
        self._root = np.append(self._root, np.array([self._tree.root(name) for name in names], np.int32))
        starts = [self._starts.get(name, self._any_start) for name in names]
        self._start = np.append(self._start, np.array(starts, np.int32))
