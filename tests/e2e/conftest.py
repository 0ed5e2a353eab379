"""Fixtures of the end-to-end tests: the agent, and processes that it can watch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import servers
from agent import Agent
from puppet import Puppet
from servers import SERVERS, Running

HERE = Path(__file__).resolve().parent
# Other tests of this folder say themselves what they need of the machine.
NEED_KERNEL = (
    "test_bench",
    "test_clients",
    "test_exact",
    "test_fast_open",
    "test_go_grpc_older",
    "test_go_parents",
    "test_go_routes",
    "test_hits",
    "test_http2",
    "test_http2_older",
    "test_lifecycle",
    "test_propagate",
    "test_reattach",
    "test_score",
    "test_selectors",
    "test_servers",
    "test_tls",
    "test_tls_go",
    "test_torture",
    "test_torture_http2",
    "test_torture_tls",
    "test_traces",
    "test_ui",
)


def unfit() -> str:
    """Why the agent can't run here; empty: it can."""
    if os.geteuid() != 0:
        return "eBPF programs need root"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "this kernel has no BTF"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = unfit()
    for item in items:
        if item.path.parent == HERE and item.path.stem in NEED_KERNEL:
            item.add_marker(pytest.mark.e2e)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


def start_agents() -> Iterator[Callable[..., Agent]]:
    agents: list[Agent] = []

    def start(*flags: str | int, **options: Any) -> Agent:
        agents.append(Agent(*flags, **options))
        return agents[-1].wait_ready()

    yield start
    for agent in agents:
        agent.kill()


@pytest.fixture
def agent() -> Iterator[Callable[..., Agent]]:
    """`agent("--pid", 4711)` starts one and waits until it is ready; what is left of it is killed afterwards."""
    yield from start_agents()


@pytest.fixture(scope="module")
def module_agent() -> Iterator[Callable[..., Agent]]:
    """The same for agents that many tests share."""
    yield from start_agents()


@pytest.fixture(scope="module")
def puppets() -> Iterator[Callable[[], Puppet]]:
    """`puppets()` starts a process that does what it is told."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Puppet())


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Callable[[str], Running]]:
    """Servers, by name."""
    with ExitStack() as stack:

        def launch(name: str) -> Running:
            server = servers.by_name(name, SERVERS)
            if lacking := servers.missing(server):
                pytest.skip(f"needs {', '.join(lacking)}")
            running = servers.launch(server, tmp_path / name)
            stack.callback(running.stop)
            return servers.wait_up(running)

        yield launch
