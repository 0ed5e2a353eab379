"""What there is to know of a library: its functions, and which program of the kernel side looks at each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Function:
    """An exported function. Programs are those of `bpf/probes/`, by name."""

    symbol: str
    program: str  # on entry
    on_return: str = ""  # empty: its return is not looked at


@dataclass(frozen=True, slots=True)
class Inner:
    """The function that does the work of two others, where the file's code shows that there is one."""

    symbols: tuple[str, str]
    function: Function


@dataclass(frozen=True, slots=True)
class Library:
    """A library, wherever its functions are: a shared file of that name, or linked into an executable."""

    name: str
    functions: tuple[Function, ...]
    inner: tuple[Inner, ...] = ()  # takes the place of the two, if a probe is cheaper there
    shared: tuple[str, ...] = ()  # how its shared files are called, as globs: for finding it before any process has it
