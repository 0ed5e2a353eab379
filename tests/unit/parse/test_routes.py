"""Routes: patterns, the guess, and the bounds of both."""

from __future__ import annotations

import random
import re
import string
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoinstr.errors import UsageError
from autoinstr.model import Service
from autoinstr.parse import RouteOptions, tree
from autoinstr.parse.patterns import MAX_SEGMENTS, split_pattern
from autoinstr.parse.routes import Routes
from autoinstr.parse.texts import Texts, gather
from autoinstr.parse.words import Words


def texts(paths: list[str]) -> Texts:
    data = np.frombuffer("".join(paths).encode(), np.uint8)
    size = np.array([len(path) for path in paths], np.int64)
    return gather(data, np.cumsum(size) - size, size)


def find(routes: Routes, paths: list[str], service: int = 0, *, found: bool = True, whole: bool = True) -> list[str]:
    count = len(paths)
    numbers = routes.find(
        texts(paths), np.full(count, service, np.int32), found=np.full(count, found), whole=np.full(count, whole)
    )
    return [routes.names[number] for number in numbers]


def guess(*paths: str) -> list[str]:
    return find(Routes(RouteOptions()), list(paths))


VALUES = [
    "0", "17", "-12", "3.14", "2024-01-31", "12,13",
    str(uuid.UUID(int=7 << 70 | 11)), "6F9619FF-8B86-D011-B42D-00CF4FC964FF",
    "3fa9c1", "deadbeef01", "d41d8cd98f00b204e9800998ecf8427e", "ABCDEFABCDEFABCDEF",
    "user12345", "order-99812", "a1b2c3", "dQw4w9WgXcQ", "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "zqxjkvwpqt", "xkcdqwrtzp", "bob@example.com", "a=b", "hello%20world", "x;jsessionid=1", "x" * 57,
]  # fmt: skip
NAMES = [
    "users", "v1", "v2beta1", "oauth2", "item2", "api", "health", "i18n", "x86_64", "sha256", "es2015", "k8s", "s3",
    "index.html", "app.js", "v1.2.3", ".well-known", "openid-configuration", "getUserById", "user_profile", "e2e",
    "knowledge", "things:batchGet", "~admin", "facade", "effaced", "swagger-ui", "robots.txt", "checkout", "xml-rpc",
]  # fmt: skip


@pytest.mark.parametrize("word", VALUES)
def test_values_become_stars(word: str) -> None:
    assert guess(f"/a/{word}/b") == ["/a/*/b"]


@pytest.mark.parametrize("word", NAMES)
def test_names_stay(word: str) -> None:
    assert guess(f"/a/{word}/b") == [f"/a/{word}/b"]


def test_error_rates_of_the_guess_about_words() -> None:
    rng = random.Random(5)
    dictionary = sorted(set(re.findall(r"[a-z]{8,}", f"{string.__doc__} {random.__doc__} {re.__doc__}")))
    joined = texts(dictionary)
    assert len(dictionary) > 50
    assert Words(joined.data).are_values(joined.at, joined.size).mean() < 0.03
    letters = string.ascii_letters + string.digits
    noise = texts(["".join(rng.choices(letters, k=rng.randint(12, 24))) for _ in range(2000)])
    assert Words(noise.data).are_values(noise.at, noise.size).mean() > 0.9


def test_a_word_is_judged_alike_wherever_it_lies() -> None:
    words = [*VALUES, *NAMES] * 3
    random.Random(1).shuffle(words)
    joined = texts(words)
    together = Words(joined.data).are_values(joined.at, joined.size).tolist()
    for word, verdict in zip(words, together, strict=True):
        alone = texts([word])
        assert Words(alone.data).are_values(alone.at, alone.size).tolist() == [verdict]


def test_a_node_with_too_many_children_becomes_a_star() -> None:
    routes = Routes(RouteOptions())
    names = [f"/people/{a}{b}/posts" for a in ("ann", "bob", "eve") for b in ("ie", "son", "ton", "lyn")]
    assert find(routes, names[:10]) == names[:10]
    assert find(routes, names[10:]) == ["/people/*/posts"] * 2
    assert find(routes, names) == ["/people/*/posts"] * 12
    assert find(routes, ["/people/", "/people", "/other"]) == ["/people/", "/people", "/other"]


def test_one_batch_can_collapse_a_node() -> None:
    routes = Routes(RouteOptions(max_children=2))
    assert find(routes, ["/a", "/b", "/c", "/d"]) == ["/*", "/*", "/*", "/*"]
    assert find(routes, ["/a", "/z"]) == ["/*", "/*"]


def test_what_is_not_found_adds_no_names() -> None:
    routes = Routes(RouteOptions())
    assert find(routes, ["/login"]) == ["/login"]
    scan = [f"/{word}/admin.php" for word in ("wp", "phpmyadmin", "cgi", "shell", "test", "old", "new", "tmp")] * 3
    assert find(routes, scan, found=False) == ["/*/*"] * 24
    assert find(routes, ["/login"], found=False) == ["/login"]
    assert find(routes, ["/wp"]) == ["/wp"]


def test_a_path_without_its_end() -> None:
    assert find(Routes(RouteOptions()), ["/files/repo"], whole=False) == ["/files/*"]


def test_services_have_trees_of_their_own_by_name() -> None:
    services = [Service("shop", {}), Service("cart", {}), Service("shop", {})]
    routes = Routes(RouteOptions(max_children=1, by_service={"cart": ["/c/{id}"]}), lambda: services)
    assert find(routes, ["/a"], 0) + find(routes, ["/b"], 0) == ["/a", "/*"]
    assert find(routes, ["/a", "/c/7"], 1) == ["/a", "/c/{id}"]
    assert find(routes, ["/a", "/c/7"], 2) == ["/*", "/*/*"]
    services.append(Service("cart", {}))
    assert find(routes, ["/c/7"], 3) == ["/c/{id}"]


def test_the_depth_is_bounded() -> None:
    assert guess("/a" * 12, "/a" * 13, "/a" * 90) == ["/a" * 12, "/a" * 12 + "/**", "/a" * 12 + "/**"]


def test_the_tree_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_NODES_PER_TREE", 50)
    routes = Routes(RouteOptions())
    rng = random.Random(3)
    words = ["red", "green", "blue", "cyan", "pink", "teal", "gold", "grey"]
    paths = ["/" + "/".join(rng.choices(words, k=6)) for _ in range(500)]
    first, second = find(routes, paths), find(routes, paths)
    assert "/**" in first
    assert len(routes.names) < 60
    assert second == find(routes, paths)
    assert find(routes, ["/red"], 1) == ["/red"]


def test_trees_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_TREES", 2)
    routes = Routes(RouteOptions(max_children=1))
    assert [find(routes, [path], service) for service, path in enumerate(["/a", "/b", "/c"])] == [
        ["/a"],
        ["/b"],
        ["/*"],
    ]


PATTERNS = ["/users/{id}", "/users/me", "/users/:id/orders/{order}", "/static/**", "/files/*", "/a/*/c", "/trail/", "/"]


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/users/17", "/users/{id}"),
        ("/users/ann", "/users/{id}"),
        ("/users/me", "/users/me"),
        ("/users/17/", "/users/{id}"),
        ("/users/17//", "/users/*//"),
        ("/users/", "/users/"),
        ("/users/17/orders/x", "/users/:id/orders/{order}"),
        ("/static", "/static/**"),
        ("/static/", "/static/**"),
        ("/static/js/app.js", "/static/**"),
        ("/files/a/b", "/files/*"),
        ("/a/b/c", "/a/*/c"),
        ("/a/b/d", "/a/b/d"),
        ("/trail/", "/trail/"),
        ("/trail", "/trail"),
        ("/", "/"),
        ("/other/17", "/other/*"),
    ],
)
def test_patterns(path: str, route: str) -> None:
    assert find(Routes(RouteOptions(patterns=PATTERNS)), [path]) == [route]


def test_unmatched_paths_can_share_one_route() -> None:
    routes = Routes(RouteOptions(patterns=["/a/{b}"], mode="wildcard"))
    assert find(routes, ["/a/b", "/c", "/"]) == ["/a/{b}", "/**", "/**"]


def matches(pattern: str, path: str) -> bool:
    """One pattern as a regular expression."""
    parts = split_pattern(pattern)
    expression = "".join(
        "(/.*)?" if part == "**" else "/[^/]+" if part == "*" else "/" + re.escape(part) for part in parts
    )
    return re.fullmatch(expression + ("" if parts[-1] == "" else "/?"), path) is not None


SEGMENTS = st.sampled_from(["a", "b", "c", ""])
PATTERN = st.lists(st.sampled_from(["a", "b", "{x}", "*", ":y", "**", ""]), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join([part for part in parts[:-1] if part != "**"] + parts[-1:])
)


@given(
    st.lists(PATTERN, max_size=6),
    st.lists(
        st.lists(SEGMENTS, min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts)), min_size=1, max_size=9
    ),
)
@settings(max_examples=200, deadline=None)
def test_patterns_match_as_regular_expressions_do(patterns: list[str], paths: list[str]) -> None:
    routes = Routes(RouteOptions(patterns=patterns, mode="wildcard"))
    rank = {"*": 1, "**": 2}
    for path, route in zip(paths, find(routes, paths), strict=True):
        fitting = [pattern for pattern in patterns if matches(pattern, path)]
        if not fitting:
            assert route == "/**"
        else:
            best = min([rank.get(part, 0) for part in split_pattern(pattern)] for pattern in fitting)
            assert route in fitting
            assert [rank.get(part, 0) for part in split_pattern(route)] == best


@pytest.mark.parametrize(
    "options",
    [
        RouteOptions(patterns=["users"]),
        RouteOptions(patterns=["/caf\xe9"]),
        RouteOptions(patterns=["/a b"]),
        RouteOptions(patterns=["/**/a"]),
        RouteOptions(patterns=["/a" * (MAX_SEGMENTS + 1)]),
        RouteOptions(patterns=["/" + "a" * 57]),
        RouteOptions(by_service={"shop": ["nope"]}),
        RouteOptions(patterns=[f"/{number}" for number in range(1001)]),
        RouteOptions(mode="magic"),
        RouteOptions(max_children=0),
    ],
)
def test_wrong_options_are_told(options: RouteOptions) -> None:
    with pytest.raises(UsageError):
        Routes(options)


def test_every_path_gets_some_route() -> None:
    rng = random.Random(9)
    alphabet = "ab1/-.%@~"
    paths = ["/" + "".join(rng.choices(alphabet, k=rng.randint(0, 80))) for _ in range(3000)]
    routes = Routes(RouteOptions())
    assert all(route.startswith("/") for route in find(routes, paths))
    assert len(routes.names) <= tree.MAX_NODES_PER_TREE + 2
