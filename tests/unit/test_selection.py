"""Selectors: what matches, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from autoinstr.selection import Selection, Selector, exe_matches, is_agent, parse_ports


@dataclass(frozen=True)
class Fake:
    pid: int = 1
    exe: str = "/usr/bin/python3.11"
    command: tuple[str, ...] = ("python3", "shop.py")
    ports: tuple[int, ...] = (8080,)


@pytest.mark.parametrize(
    ("pattern", "exe", "matches"),
    [
        ("nginx", "/usr/sbin/nginx", True),
        ("ngin?", "/usr/sbin/nginx", True),
        ("*/nginx", "/usr/sbin/nginx", True),
        ("/usr/*", "/usr/local/bin/x", True),
        ("/sbin/nginx", "/usr/sbin/nginx", False),
        ("usr", "/usr/sbin/nginx", False),
        ("nginx", "", False),
        ("*", "", False),
        ("[a-m]*", "/x/nginx", False),
    ],
)
def test_exe_globs(pattern: str, exe: str, matches: bool) -> None:
    assert exe_matches((pattern,), exe) is matches


def test_keys_of_one_selector_must_all_hold() -> None:
    selector = Selector("select[0]", ports=parse_ports("8080"), exe=("python3*", "node"), cmd=("*shop*",))
    assert selector.matches(Fake())
    assert not selector.matches(Fake(ports=(80,)))
    assert not selector.matches(Fake(exe="/usr/bin/ruby"))
    assert not selector.matches(Fake(command=("python3", "cart.py")))
    assert str(selector) == "select[0].exe+cmd+port"


def test_selectors_are_alternatives() -> None:
    by_port, by_pid = Selector("--port 80", ports=parse_ports("80")), Selector("--pid 1", pid=(1,))
    assert Selection((by_port, by_pid)).select(Fake()) is by_pid
    assert Selection((by_port, by_pid)).select(Fake(pid=2)) is None


def test_command_glob_is_for_the_whole_line() -> None:
    assert Selector("", cmd=("python3 shop.py",)).matches(Fake())
    assert not Selector("", cmd=("shop.py",)).matches(Fake())


@pytest.mark.parametrize("exe", ["/bin/otelcol-contrib", "/usr/bin/alloy", "/beyla", "/opt/otelcol"])
def test_agents_are_left_out(exe: str) -> None:
    by_port = Selector("--port 8080", ports=parse_ports("8080"))
    assert Selection((by_port,)).select(Fake(exe=exe)) is None
    assert Selection((by_port,), include_agents=True).select(Fake(exe=exe)) is by_port
    by_pid = Selector("--pid 1", pid=(1,))
    assert Selection((by_pid,)).select(Fake(exe=exe)) is by_pid, "a pid is explicit"


@pytest.mark.parametrize(
    "command",
    [
        ("/opt/venv/bin/python", "/usr/local/bin/autoinstr", "run"),
        ("python3", "-m", "autoinstr", "run"),
        ("autoinstr",),
    ],
)
def test_another_autoinstr_is_an_agent(command: tuple[str, ...]) -> None:
    assert is_agent("/usr/bin/python3.11", command)
    assert not is_agent("/usr/bin/python3.11", ("python3", "shop.py", "--with", "x/autoinstr"))


def test_who_holds_a_port_for_others() -> None:
    by_port = Selector("--port 8080", ports=parse_ports("8080"))
    assert Selection((by_port,)).select(Fake(exe="/usr/lib/systemd/systemd")) is None
    assert Selection((by_port,)).select(Fake(exe="/usr/bin/docker-proxy")) is None
    by_exe = Selector("--exe systemd", exe=("systemd",))
    assert Selection((by_exe,)).select(Fake(exe="/usr/lib/systemd/systemd")) is by_exe


def test_excluded_wins_over_pid() -> None:
    exclude = (Selector("--exclude-exe python*", exe=("python*",)),)
    selection = Selection((Selector("--pid 1", pid=(1,)),), exclude)
    assert selection.select(Fake()) is None
    assert selection.excludes(Fake())
