"""The guess: a tree of the path segments that were seen, one tree a service.

In: paths. Out: the route number of each. Values (`words.py`) and all children of a node with too many of them become
`*`. Python runs once for each new node; the trees never grow beyond their limits, and no number changes its meaning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from autoinstr.parse.paths import Paths, edge, edges, hash_of
from autoinstr.parse.table import Table
from autoinstr.parse.texts import marked
from autoinstr.parse.words import Words

MAX_DEPTH = 12  # segments of a route, deeper paths end in `**`; real interfaces have less than ten
MAX_NODES = 16384  # of all trees: about 300 bytes each, 5 MB
MAX_NODES_PER_TREE = 1024  # a few hundred routes; so that hostile paths of one service don't take all
MAX_TREES = 1024  # further services share the last one

# Neither can be the segment of a path: a NUL is escaped.
_STAR, _REST = np.uint64(hash_of("\0*")), np.uint64(hash_of("\0**"))
_LABELS = {int(_STAR): "*", int(_REST): "**"}


class Tree:
    """All trees, in one set of arrays indexed by node."""

    def __init__(self, number: Callable[[str], int], max_children: int) -> None:
        self._number = number  # gives a route's text its number
        self._max_children = max_children
        self._table = Table()  # (node, segment) -> node
        self._roots: dict[str, int] = {}
        self._prefix: list[str] = []  # by node: its route as text, "" for a root
        self._children: Counter[int] = Counter()
        self._size: Counter[int] = Counter()  # by root: nodes
        self._route = np.zeros(64, np.int32)  # by node: route number
        self._root_of = np.zeros(64, np.int32)  # by node: root of its tree
        self._collapsed = np.zeros(64, np.bool_)  # by node: all its children are `*`
        self._full = np.zeros(64, np.bool_)  # by root: no more nodes for this tree
        self._beyond = number("/**")  # for what finds no room in its tree

    def root(self, service: str) -> int:
        """Root of a service's tree: those of one name share it."""
        if service not in self._roots:
            if len(self._roots) >= MAX_TREES:
                return next(reversed(self._roots.values()))
            self._roots[service] = self._add("", len(self._prefix))
        return self._roots[service]

    def find(
        self,
        paths: Paths,
        rows: NDArray[np.intp],
        root: NDArray[np.int32],
        found: NDArray[np.bool_],
        whole: NDArray[np.bool_],
    ) -> NDArray[np.int32]:
        """Route numbers of the paths `rows`; the other arrays are parallel to rows. See `routes.Routes.find`."""
        first, count = paths.first.take(rows), paths.count.take(rows)
        words = Words(paths.segments.data)
        node = root.copy()
        going = np.arange(len(rows))
        for depth in range(MAX_DEPTH + 1):
            going = going.compress((count.take(going) > depth) & (node.take(going) >= 0))
            if not len(going):
                break
            segment = first.take(going) + depth
            name = paths.hashes.take(segment) if depth < MAX_DEPTH else np.full(len(going), _REST)
            # A segment that is cut off may be anything.
            np.putmask(name, (~whole & (count == depth + 1)).take(going), _STAR)
            node[going] = self._take(
                paths, words, node=node.take(going), segment=segment, name=name, found=found.take(going)
            )
        return np.where(node >= 0, self._route.take(node), self._beyond)

    def _take(
        self,
        paths: Paths,
        words: Words,
        *,
        node: NDArray[np.int32],
        segment: NDArray[np.intp],
        name: NDArray[np.uint64],
        found: NDArray[np.bool_],
    ) -> NDArray[np.int32]:
        """The nodes below `node` by name of segment, new ones where needed; -1 where there is no room for one."""
        at, size = paths.segments.at.take(segment), paths.segments.size.take(segment)
        foldable = (size > 0) & (name != _REST)
        np.putmask(name, self._collapsed.take(node) & foldable, _STAR)
        after = self._table.find(edges(node, name))
        new = marked(after < 0)
        if not len(new):
            return after
        # What the server does not have (a scan for weak spots, say) must not push out real routes.
        values = words.are_values(at.take(new), size.take(new))
        name[new.compress(foldable.take(new) & (values | ~found.take(new)))] = _STAR
        after[new] = self._table.find(edges(node.take(new), name.take(new)))
        while True:
            new = new.compress((after.take(new) < 0) & ~self._full.take(self._root_of.take(node.take(new))))
            if not len(new):
                return after
            keys = edges(node[new], name[new])
            for row in new[np.sort(np.unique(keys, return_index=True)[1])].tolist():
                self._grow(int(node[row]), int(name[row]), paths.segments.text(int(segment[row])))
            name[new[self._collapsed[node[new]] & foldable[new]]] = _STAR
            after[new] = self._table.find(edges(node[new], name[new]))

    def _grow(self, node: int, name: int, text: bytes) -> None:
        """Add a child to a node, or find that it has too many, or that its tree is full."""
        root = int(self._root_of[node])
        label = _LABELS.get(name) or text.decode("ascii")
        if self._collapsed[node] and label and name not in _LABELS:
            return
        if name not in _LABELS and label:
            if self._children[node] >= self._max_children:
                self._collapsed[node] = True
                return
            self._children[node] += 1
        if self._size[root] >= MAX_NODES_PER_TREE or len(self._prefix) >= MAX_NODES:
            self._full[root] = True
            return
        self._table.add(edge(node, name), self._add(f"{self._prefix[node]}/{label}", root))

    def _add(self, route: str, root: int) -> int:
        node = len(self._prefix)
        if node == len(self._route):
            for name in ("_route", "_root_of", "_collapsed", "_full"):
                array = getattr(self, name)
                setattr(self, name, np.concatenate([array, np.zeros_like(array)]))
        self._prefix.append(route)
        self._size[root] += 1
        self._root_of[node] = root
        self._route[node] = self._number(route) if route else 0
        return node
