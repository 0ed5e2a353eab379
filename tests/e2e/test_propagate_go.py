"""`--propagate go`: what Go's client asks other hosts, also over TLS, brings the ids of the span that is told of it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from agent import Agent
from truth import CLIENT, kind_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "torture"))

import go_client
from torture import refusal

COUNT = 64  # requests of each kind: enough to be taken for one with an SDK, if the field were taken for its own
AT_ONCE = 4
SHORT = 2_001
BUILDS = {
    "here": ("", ()),
    "oldest": ("1.17.13", ("-ldflags=-s -w",)),
    "newest": ("1.27.3", ("-buildmode=pie", "-ldflags=-s -w")),
}

pytestmark = pytest.mark.skipif(not shutil.which("go"), reason="needs go")


@pytest.fixture(scope="module", params=BUILDS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    allowed()
    toolchain, flags = BUILDS[request.param]
    return go_client.build(tmp_path_factory.mktemp("odd"), *flags, toolchain=toolchain)


@pytest.fixture
def odd(program: Path) -> Iterator[go_client.Odd]:
    with ExitStack() as stack:
        yield go_client.Odd(program, stack, "relay")


def allowed() -> None:
    if reason := refusal("go"):
        pytest.skip(f"go is refused here, which test_refused asks for: {reason}")


def test_brings_the_span_that_is_told(agent: Callable[..., Agent], odd: go_client.Odd) -> None:
    started = agent("--pid", odd.asking.pid, "--propagate", "go")
    paths = [f"/{kind}/{number}" for number in range(COUNT) for kind in ("plain", "tls")]
    brought: dict[str, str] = {}

    def ask(some: list[str]) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{odd.said}", timeout=60) as client:
            for number, path in enumerate(some):
                body = {"content": b"b" * 5000} if number % 3 else {}
                brought[path] = client.request("POST" if body else "GET", path, **body).text

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(ask, [paths[n::AT_ONCE] for n in range(AT_ONCE)]))
    spans = started.stop()
    calls = {span["attributes"]["url.path"]: span for span in spans if kind_of(span) == CLIENT}
    served = {span["attributes"]["url.path"]: span for span in spans if kind_of(span) != CLIENT}
    assert calls.keys() == served.keys() == set(paths)
    assert brought == {path: value_of(call) for path, call in calls.items()}
    assert {path: parent_of(call) for path, call in calls.items()} == {
        path: (span["traceId"], span["spanId"]) for path, span in served.items()
    }


def value_of(span: dict[str, Any]) -> str:
    return f"00-{span['traceId']}-{span['spanId']}-01"


def parent_of(span: dict[str, Any]) -> tuple[str, str]:
    return span["traceId"], span["parentSpanId"]


@pytest.mark.parametrize("kill", [False, True])
def test_every_other_byte_is_the_same(program: Path, kill: bool) -> None:
    found = go_client.torment(program, 10 * SHORT if kill else SHORT, kill=kill)
    assert found["requests"] >= SHORT
    assert go_client.complaints(found, kill=kill) == []
