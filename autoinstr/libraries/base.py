"""What there is to know of a library: its functions, and which program of the kernel side looks at each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autoinstr import elf

# bpf/maps.h: how the kernel side joins sessions with sockets
TARGET_TLS = 16
TARGET_GO = 64
# and what the kernel side is told in another way
HAS_PYTHON = 256
HAS_NODE = 512
HAS_UVLOOP = 1024


@dataclass(frozen=True, slots=True)
class Function:
    """A function. Programs are those of `bpf/probes/`, by name; empty: there is nothing to look at."""

    symbol: str
    program: str  # on entry
    on_return: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file which program is to be attached."""

    offset: int
    program: str
    on_return: bool = False  # where the function that begins there returns to


@dataclass(frozen=True, slots=True)
class Inner:
    """The function that does the work of two others, where the file's code shows that there is one."""

    symbols: tuple[str, str]
    function: Function


def exported(descriptor: int, functions: tuple[Function, ...], inner: tuple[Inner, ...] = ()) -> list[Place]:
    """Places of functions that are in a table of symbols. `inner`: takes the place of two, if it is cheaper there."""
    defined = elf.functions(descriptor, [function.symbol for function in functions])
    found = [(function, defined[function.symbol][0]) for function in functions if function.symbol in defined]
    for one in inner:
        around = [defined[symbol] for symbol in one.symbols if symbol in defined]
        if len(around) == len(one.symbols) and (at := elf.cheaper_callee(descriptor, around)) is not None:
            found = [pair for pair in found if pair[0].symbol not in one.symbols] + [(one.function, at)]
    places = []
    for function, at in found:
        if function.on_return:
            places.append(Place(at, function.on_return, on_return=True))
        if function.program:
            places.append(Place(at, function.program))
    return places


@dataclass(frozen=True, slots=True)
class Library:
    """A library, wherever its functions are: a shared file of that name, or linked into an executable."""

    name: str
    # Probed in this order. What writes comes before what reads: where a server's requests are seen and its answers are
    # not yet, the next one's answer would be taken for the last one's.
    functions: tuple[Function, ...]
    flag: int = TARGET_TLS  # of a process that has it
    group: str = "tls"  # of probes.GROUPS
    hits: float = 0.0  # of its probes, where all goes as it mostly does ...
    per: str = "request"  # ... for each of these
    rare: tuple[str, ...] = ()  # programs that have no part in that
    # where it is found before any process has it: names of its shared files, as globs, and of programs with it built in
    shared: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    # where its functions are in a file, returns first: a call that is only seen to end is nothing. None: it is not
    # there; OSError or ValueError: it is, but can't be probed
    places: Callable[[int, tuple[Function, ...]], list[Place]] = exported
    # where fields lie in its structures, by the names that `scripts/go_layouts.go` gives them
    layout: Callable[[int], dict[str, int]] | None = None
