"""Names that programs give to requests, as routes."""

from __future__ import annotations

import numpy as np
import pytest

from autoinstr.capture.abi import NameKind
from autoinstr.model import Name
from autoinstr.parse.names import route_of
from autoinstr.parse.routes import RouteOptions, Routes
from autoinstr.parse.texts import Texts


@pytest.mark.parametrize(
    ("kind", "text", "route"),
    [
        (NameKind.PATTERN, "GET /users/{id}", "/users/{id}"),
        (NameKind.PATTERN, "/", "/"),
        (NameKind.PATTERN, "POST example.com/a/{b...}", "/a/{b...}"),
        (NameKind.PATTERN, "/a b", "/a%20b"),
        (NameKind.PATTERN, "none", ""),
        (NameKind.ROUTE, "/users/:id", "/users/:id"),
        (NameKind.ROUTE, "/über", "/%C3%BCber"),
        (NameKind.CHI, "/a/*/b/*/c", "/a/b/c"),
        (NameKind.CHI, "/a/*/*/b", "/a/b"),
        (NameKind.CHI, "/mounted/*/", "/mounted"),
        (NameKind.CHI, "/", "/"),
        (0, "/users", ""),
    ],
)
def test_route(kind: int, text: str, route: str) -> None:
    assert route_of(Name(kind, text.encode())) == route


def test_named_routes_come_after_patterns_and_before_guesses() -> None:
    names: dict[int, Name] = {}
    routes = Routes(RouteOptions(patterns=["/mine/{x}"]), names=names)
    paths = ["/mine/1", "/users/7", "/users/7", "/users/8"]
    keys = np.array([5, 5, 0, 9], np.uint64)
    names[5] = Name(NameKind.ROUTE, b"/users/:id")  # 9 was lost
    data = np.frombuffer("".join(paths).encode() + bytes(8), np.uint8)
    size = np.array([len(path) for path in paths])
    found = np.ones(4, np.bool_)
    route = routes.find(
        Texts(data, np.cumsum(size) - size, size),
        np.zeros(4, np.int32),
        found=found,
        whole=found,
        named=routes.named(keys),
    )
    assert [routes.names[number] for number in route] == ["/mine/{x}", "/users/:id", "/users/*", "/users/*"]
    names[9] = Name(NameKind.ROUTE, b"/late")
    assert routes.names[int(routes.named(np.array([9], np.uint64))[0])] == "/late"
