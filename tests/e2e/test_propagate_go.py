"""`--propagate go`: what Go's client asks other hosts, also over TLS, brings the ids of the span that is told of it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
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
HTTP1 = ("plain", "tls")
HTTP2 = ("std", "x", "x-plain", "rpc", "rpc-plain")  # clients of odd_http2
MOSTLY = ("rpc", "rpc-plain")  # it may not be known yet who makes a call when it is written

pytestmark = pytest.mark.skipif(not shutil.which("go"), reason="needs go")


@dataclass(frozen=True)
class Built:
    """A program, and the one that serves it."""

    program: Path
    server: Path
    kinds: tuple[str, ...]  # of what it asks


@pytest.fixture(scope="module", params=[(build, http) for build in BUILDS for http in (1, 2)], ids=str)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    allowed()
    build, http = request.param
    toolchain, flags = BUILDS[build]
    folder = tmp_path_factory.mktemp("odd")
    if http == 1:
        program = go_client.build(folder, *flags, toolchain=toolchain)
        return Built(program, program, HTTP1)
    alone = build == "oldest"
    program = go_client.build_http2(folder, *flags, toolchain=toolchain, alone=alone)
    server = go_client.build_http2(tmp_path_factory.mktemp("server")) if alone else program
    return Built(program, server, HTTP2[:1] if alone else HTTP2)


def allowed() -> None:
    if reason := refusal("go"):
        pytest.skip(f"go is refused here, which test_refused asks for: {reason}")


def test_brings_the_span_that_is_told(agent: Callable[..., Agent], built: Built) -> None:
    with ExitStack() as stack:
        odd = go_client.Odd(built.program, stack, "relay", server=built.server)
        started = agent("--pid", odd.asking.pid, "--propagate", "go")
        paths = [f"/{kind}/{number}" for number in range(COUNT) for kind in built.kinds]
        brought: dict[str, str] = {}

        def ask(some: list[str]) -> None:
            with httpx.Client(base_url=f"http://127.0.0.1:{odd.said}", timeout=60) as client:
                for number, path in enumerate(some):
                    body = {"content": b"b" * 5000} if number % 3 else {}
                    brought[path] = client.request("POST" if body else "GET", path, **body).text

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(ask, [paths[n::AT_ONCE] for n in range(AT_ONCE)]))
        spans = started.stop()
    calls = {path_of(span): span for span in spans if kind_of(span) == CLIENT}
    served = {path_of(span): span for span in spans if kind_of(span) != CLIENT}
    assert calls.keys() == served.keys() == set(paths)
    without = {path for path in paths if not brought[path]}
    assert brought == {path: "" if path in without else value_of(call) for path, call in calls.items()}
    assert {path.split("/")[1] for path in without} <= set(MOSTLY)
    assert len(without) < 0.5 * len(paths)
    assert {path: parent_of(call) for path, call in calls.items()} == {
        path: (span["traceId"], span["spanId"]) for path, span in served.items()
    }


def path_of(span: dict[str, Any]) -> str:
    found = span["attributes"]
    return str(found["url.path"] if "url.path" in found else f"/{found['rpc.service']}/{found['rpc.method']}")


def value_of(span: dict[str, Any]) -> str:
    return f"00-{span['traceId']}-{span['spanId']}-01"


def parent_of(span: dict[str, Any]) -> tuple[str, str]:
    return span["traceId"], span["parentSpanId"]


@pytest.mark.parametrize("kill", [False, True])
def test_every_other_byte_is_the_same(built: Built, kill: bool) -> None:
    found = go_client.torment(built.program, 10 * SHORT if kill else SHORT, kill=kill, server=built.server)
    assert found["requests"] >= SHORT
    assert go_client.complaints(found, kill=kill) == []
