"""What there is to know of a library: its functions, and which program of the kernel side looks at each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autoinstr.elf import cheaper_callee, function_offsets

# bpf/maps.h: how the kernel side joins sessions with sockets
TARGET_TLS = 16
TARGET_GO = 64


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
    offsets = function_offsets(descriptor, [function.symbol for function in functions])
    found = [(function, offsets[function.symbol]) for function in functions if function.symbol in offsets]
    for one in inner if found else ():
        if (at := cheaper_callee(descriptor, *one.symbols)) is not None:
            found = [pair for pair in found if pair[0].symbol not in one.symbols] + [(one.function, at)]
    places = []
    for function, at in found:
        if function.on_return:
            places.append(Place(at, function.on_return, on_return=True))
        places.append(Place(at, function.program))
    return places


@dataclass(frozen=True, slots=True)
class Library:
    """A library, wherever its functions are: a shared file of that name, or linked into an executable."""

    name: str
    functions: tuple[Function, ...]
    flag: int = TARGET_TLS  # of a process that has it
    shared: tuple[str, ...] = ()  # how its shared files are called, as globs: for finding it before any process has it
    # where its functions are in a file, returns first: a call that is only seen to end is nothing. None: it is not
    # there; OSError or ValueError: it is, but can't be probed
    places: Callable[[int, tuple[Function, ...]], list[Place]] = exported
