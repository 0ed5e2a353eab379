"""`--propagate go`: what Go's client asks other hosts, also over TLS, brings the ids of the span that is told of it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from agent import Agent

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "torture"))

import go_client
from torture import refusal

COUNT = 64  # requests of each kind: enough to be taken for one with an SDK, if the field were taken for its own
SHORT = 2_001
BUILDS = {
    "here": ("", ()),
    "oldest": ("1.17.13", ("-ldflags=-s -w",)),
    "newest": ("1.27.3", ("-buildmode=pie", "-ldflags=-s -w")),
}

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
        return Built(program, program, go_client.HTTP1)
    alone = build == "oldest"
    program = go_client.build_http2(folder, *flags, toolchain=toolchain, alone=alone)
    server = go_client.build_http2(tmp_path_factory.mktemp("server")) if alone else program
    return Built(program, server, go_client.HTTP2[:1] if alone else go_client.HTTP2)


def allowed() -> None:
    if reason := refusal("go"):
        pytest.skip(f"go is refused here, which test_refused asks for: {reason}")


def test_brings_the_span_that_is_told(agent: Callable[..., Agent], built: Built) -> None:
    with ExitStack() as stack:
        relays = go_client.Relays([(built.program, built.kinds)], stack, server=built.server)
        started = agent(*relays.flags)
        relays.ask(COUNT)
        assert relays.complaints(started.stop()) == []


@pytest.mark.parametrize("kill", [False, True])
def test_every_other_byte_is_the_same(built: Built, kill: bool) -> None:
    found = go_client.torment(built.program, 10 * SHORT if kill else SHORT, kill=kill, server=built.server)
    assert found["requests"] >= SHORT
    assert go_client.complaints(found, kill=kill) == []
