"""Which processes a user asked for: selectors, and the rule by which they are combined. Pure values, no I/O.

In: texts of flags, of the environment or of the configuration file. Out: `Selection`, which decides on anything that
looks like a process (`Candidate`). Must never read /proc: `discover/` does, and shows what it read.

Selectors are or-ed with each other; inside one selector, its keys (port, exe, cmd, pid) are and-ed and the values of
one key are or-ed. On the command line every flag is a selector of its own.
Globs are fnmatch's: `*` crosses slashes; an exe pattern without a slash is held against the file's base name.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Protocol, TypeAlias

from autoinstr.errors import UsageError

PortRange: TypeAlias = tuple[int, int]  # first and last, both included

MAX_PORT = 65535

# Observers of others: watching them costs, and tells nothing about the user's own services.
AGENTS = (
    "*beyla",
    "obi",
    "ebpf-instrument",
    "alloy",
    "grafana-agent*",
    "otelcol*",
    "otelcontribcol*",
    "*prometheus-config-reloader",
    "datadog-agent",
    "trace-agent",
    "fluent-bit",
    "parca-agent",
    "telegraf",
    "vector",
)
# They own the listening socket (socket activation, published container ports) of a server that is another process.
PORT_HOLDERS = (
    "systemd",
    "init",
    "dockerd",
    "docker-proxy",
    "containerd*",
    "conmon",
    "rootlessport*",
    "slirp4netns",
    "pasta*",
)


class Candidate(Protocol):
    """What a selector may ask about a process. Properties may be costly: cheap ones are asked first."""

    @property
    def pid(self) -> int: ...
    @property
    def exe(self) -> str:
        """Real path inside the process's own root; empty if unknown."""
        ...

    @property
    def command(self) -> tuple[str, ...]: ...
    @property
    def ports(self) -> Iterable[int]:
        """Ports that it listens on."""
        ...


def parse_ports(text: str) -> tuple[PortRange, ...]:
    """`8080,9000-9100` as ranges."""
    return tuple(_parse_range(part.strip(), text) for part in text.split(","))


def _parse_range(part: str, text: str) -> PortRange:
    first, dash, last = part.partition("-")
    if not first.strip().isdecimal() or (dash and not last.strip().isdecimal()):
        raise UsageError(f"{text!r} is not a list of ports: write numbers and ranges, such as 8080 or 8080,9000-9100")
    low, high = int(first), int(last if dash else first)
    if not 1 <= low <= high <= MAX_PORT:
        raise UsageError(f"{part!r} is not a range of ports: from 1 to {MAX_PORT}, the smaller first")
    return low, high


@lru_cache(maxsize=512)
def _matcher(pattern: str) -> Callable[[str], object]:
    return re.compile(fnmatch.translate(pattern)).match


@lru_cache(maxsize=512)
def _joined(patterns: tuple[str, ...], slash: bool) -> Callable[[str], object]:
    """One expression for all patterns with a slash, or all without: asked of every process that is started."""
    texts = [fnmatch.translate(pattern) for pattern in patterns if ("/" in pattern) is slash]
    return re.compile("|".join(texts) or r"(?!)").match


def exe_matches(patterns: tuple[str, ...], exe: str) -> bool:
    """Is `exe` (an absolute path, or empty) meant by one of the patterns?"""
    if not exe:
        return False
    name = exe.rpartition("/")[2]
    return _joined(patterns, False)(name) is not None or _joined(patterns, True)(exe) is not None


@dataclass(frozen=True, slots=True)
class Selector:
    """One entry: all of its non-empty keys must hold."""

    origin: str  # in the user's words: "--port 8080", "select[0]"
    ports: tuple[PortRange, ...] = ()
    exe: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    pid: tuple[int, ...] = ()
    service_name: str = ""
    service_namespace: str = ""

    def __str__(self) -> str:
        if self.origin.startswith("select["):
            return f"{self.origin}.{'+'.join(self.keys)}"
        return self.origin

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that it asks for."""
        asked = {"pid": self.pid, "exe": self.exe, "cmd": self.cmd, "port": self.ports}
        return tuple(key for key, values in asked.items() if values)

    def matches(self, candidate: Candidate) -> bool:
        """Do all keys hold? Listening ports are asked last: they cost the most."""
        if self.pid and candidate.pid not in self.pid:
            return False
        if self.exe and not exe_matches(self.exe, candidate.exe):
            return False
        if self.cmd:
            line = " ".join(candidate.command)
            if not any(_matcher(pattern)(line) for pattern in self.cmd):
                return False
        return not self.ports or any(wanted(self.ports, port) for port in candidate.ports)


def wanted(ranges: Iterable[PortRange], port: int) -> bool:
    """Is the port inside any of the ranges?"""
    return any(low <= port <= high for low, high in ranges)


def is_agent(exe: str, command: tuple[str, ...]) -> bool:
    """Is it a collector or an agent, autoinstr included (which is a Python script by its executable)?"""
    if exe_matches(AGENTS, exe):
        return True
    names = [argument.rpartition("/")[2] for argument in command[:4]]
    return "autoinstr" in names[:2] or any(pair == ("-m", "autoinstr") for pair in pairwise(names))


@dataclass(frozen=True, slots=True)
class Selection:
    """Everything that decides whether a process is watched."""

    selectors: tuple[Selector, ...] = ()
    exclude: tuple[Selector, ...] = ()
    include_agents: bool = False  # watch collectors and agents too
    _ports: tuple[PortRange, ...] = field(init=False, default=(), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ports", tuple(r for selector in self.selectors for r in selector.ports))

    @property
    def ports(self) -> tuple[PortRange, ...]:
        """All port ranges that any selector asks for: a process that starts to listen there is of interest."""
        return self._ports

    @property
    def asks_by_exec(self) -> bool:
        """Can a process match by what it executes, before it listens?"""
        return any(selector.exe or selector.cmd for selector in self.selectors)

    def matching(self, candidate: Candidate) -> Iterator[Selector]:
        """The selectors that match, in their order; none if the process is excluded."""
        for selector in self.selectors:
            if selector.matches(candidate) and not self._excluded_as(candidate, selector):
                yield selector

    def select(self, candidate: Candidate) -> Selector | None:
        """The first selector that matches."""
        return next(self.matching(candidate), None)

    def excludes(self, candidate: Candidate) -> bool:
        """Is it never to be watched, not even as the child of a target?"""
        if any(selector.matches(candidate) for selector in self.exclude):
            return True
        return not self.include_agents and is_agent(candidate.exe, candidate.command)

    def _excluded_as(self, candidate: Candidate, selector: Selector) -> bool:
        if any(excluded.matches(candidate) for excluded in self.exclude):
            return True
        if selector.pid or self.include_agents:
            return False  # a pid is as explicit as it gets
        if is_agent(candidate.exe, candidate.command):
            return True
        return selector.keys == ("port",) and exe_matches(PORT_HOLDERS, candidate.exe)
