"""Routes of Go's HTTP servers, in the words of the router that found them: net/http, gin, chi, echo, gorilla/mux.

A router is a function that calls another one to find the route. Behind that call its results are in registers, and the
request is the one that the goroutine serves, so this costs one hit a request and hardly anything has to be known of how
the program's structures lie. What has to be is checked by version (`scripts/go_layouts.py`); a version that is not
known is not probed, and said once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoinstr.elf import AARCH64
from autoinstr.libraries.base import Function, Library, Place
from autoinstr.libraries.go_layouts import layout
from autoinstr.libraries.go_program import GoProgram, go_program
from autoinstr.libraries.go_table import GoFunction
from autoinstr.libraries.unknown import not_known


@dataclass(frozen=True, slots=True)
class Router:
    """Where a router knows its route."""

    package: str  # as in names of functions
    caller: str
    finder: str  # that it calls; empty: what is looked at are arguments of `caller`
    results: tuple[int, ...]  # registers of the finder's results that the program reads
    program: str
    calls: int | None = None  # only so many of them are for the request itself
    kept: int | None = None  # argument that the finder has to leave where it has been called
    module: str = ""  # whose version has to have this
    layout: tuple[tuple[str, int], ...] = ()
    told: str = ""  # what has to be known of this version, and is told to the kernel side


ECHO = "github.com/labstack/echo/v4"
_CHI = ("(*Mux).routeHTTP", "(*node).FindRoute", (0,))
_SERVE = "(*ServeMux).ServeHTTP"
ROUTERS = (
    Router("net/http", _SERVE, "(*ServeMux).findHandler", (2, 3), "go_route_pattern"),
    Router("net/http", _SERVE, "(*serveMux121).findHandler", (2, 3), "go_route_pattern"),
    Router("net/http", _SERVE, "(*ServeMux).Handler", (2, 3), "go_route_pattern"),
    Router(
        *("github.com/gin-gonic/gin", "(*Engine).handleHTTPRequest", "(*node).getValue", (0, 5, 6), "go_route_gin"),
        module="github.com/gin-gonic/gin",
        layout=(("path", 8 * 5),),  # a register a word
        calls=1,  # later ones ask which methods there are
    ),
    *(
        Router(module, *_CHI, program, kept=1, module=module, layout=(("patterns", offset),))
        for module in ("github.com/go-chi/chi", "github.com/go-chi/chi/v5")
        for program, offset in (("go_route_chi", 176), ("go_route_chi_4", 48))
    ),
    *(
        Router(ECHO, caller, "(*Router).Find", (), "go_route_echo", kept=6, module=ECHO, told="echo_path")
        for caller in ("(*Echo).ServeHTTP", "(*Echo).ServeHTTP.func1")
    ),
    Router(
        *("github.com/gorilla/mux", "requestWithRoute", "", (), "go_route_gorilla"),
        module="github.com/gorilla/mux",
        layout=(("path", 80), ("template", 0)),
    ),
)

# of the garbage collector
BARRIERS = tuple(f"runtime.gcWriteBarrier{n or ''}" for n in range(9))


def route_places(descriptor: int, functions: tuple[Function, ...]) -> list[Place]:
    """Behind the calls that find routes."""
    if (program := go_program(descriptor)) is None:
        return []
    program.look_for(function.symbol for function in functions)
    places, there, known = [], set[str](), set[str]()
    for router in ROUTERS:
        caller = program.function(f"{router.package}.{router.caller}")
        if caller is None:
            continue
        there.add(router.module)
        if _fits(program, router):
            known.add(router.module)
            places += [Place(offset, router.program) for offset in _places_of(program, router, caller)]
    for module in there - known:
        version = program.modules.get(module, "of a version that is not told")
        not_known("%s %s is not one that autoinstr knows: its routes are guesses", module, version)
    return places


def _places_of(program: GoProgram, router: Router, caller: GoFunction) -> Iterator[int]:
    code = program.code(caller)
    if code is None or (entry := code.entry()) is None or (caller.before_118 and program.machine == AARCH64):
        return  # of a Go that passed arguments on the stack
    if not router.finder:
        yield program.offset(caller, entry)
        return
    finder = program.function(f"{router.package}.{router.finder}")
    if finder is None or (router.kept is not None and not _keeps(program, finder, router.kept)):
        return
    places = code.after_calls(finder.begin, router.results)
    for at in places[: router.calls]:
        yield program.offset(caller, at)


def _fits(program: GoProgram, router: Router) -> bool:
    found = layout(router.module, program.modules.get(router.module, "")) if router.module else {}
    return all(found.get(name) == offset for name, offset in router.layout) and (
        not router.told or router.told in found
    )


def layout_of(descriptor: int) -> dict[str, int]:
    """What the kernel side has to be told; of other programs nothing."""
    program = go_program(descriptor)
    names = {router.module: router.told for router in ROUTERS if router.told}
    found = {module: layout(module, program.modules.get(module, "")) for module in names} if program else {}
    return {names[module]: at[names[module]] for module, at in found.items() if names[module] in at}


def _keeps(program: GoProgram, function: GoFunction, argument: int) -> bool:
    code = program.code(function)
    barriers = [found.begin for name in BARRIERS if (found := program.function(name))]
    return code is not None and code.keeps(argument, barriers=barriers)


_NAMES = {f"{router.package}.{name}" for router in ROUTERS for name in (router.caller, router.finder) if name}
GO_HTTP = Library(
    name="net/http",
    flag=0,
    group="routes",
    functions=tuple(Function(name, "") for name in sorted(_NAMES | set(BARRIERS))),
    places=route_places,
    layout=layout_of,
    hits=1,
)
