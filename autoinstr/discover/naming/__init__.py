"""The name that a person would give a process: never "python" or "java" where a script, jar or package says more.

In: a process (command line, environment, files in its root). Out: `Name` and where it came from.
Order: the operator's own name for everything, the process's environment, the configuration entry that selected it,
then the title that a server gave itself, then the rule of its language (`RULES`), then the executable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autoinstr.discover.naming.common import Named, by_directory, is_generic
from autoinstr.discover.naming.java import java
from autoinstr.discover.naming.nodejs import nodejs
from autoinstr.discover.naming.python import python, uwsgi
from autoinstr.discover.naming.scripts import by_suffix, dotnet, erlang, perl, php, ruby
from autoinstr.discover.naming.titles import title_name
from autoinstr.discover.process import Process
from autoinstr.discover.runtime import interpreter
from autoinstr.selection import Selector

MAX_NAME = 128  # a process may call itself anything: longer names are cut
# One line a language, as `runtime.interpreter` names it.
RULES: dict[str, Callable[[Process], Named | None]] = {
    "python": python,
    "nodejs": nodejs,
    "java": java,
    "ruby": ruby,
    "php": php,
    "perl": perl,
    "dotnet": dotnet,
    "erlang": erlang,
    **dict.fromkeys(("r", "julia", "lua", "lisp", "racket", "tcl"), by_suffix),
}

# Sources of names that somebody gave, so that nothing else is a better one.
GIVEN = ("OTEL_SERVICE_NAME of autoinstr", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "config")
_MULTI_CALL = ("busybox", "toybox", "coreutils")


@dataclass(frozen=True, slots=True)
class Name:
    """Of a service."""

    name: str
    source: str  # "OTEL_SERVICE_NAME", "config", "jar", "script", "executable" ...
    namespace: str = ""


def parse_attributes(text: str) -> dict[str, str]:
    """OTEL_RESOURCE_ATTRIBUTES: `key=value,key=value`, values percent-encoded; broken parts are left out."""
    found: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if equals and key.strip():
            found[key.strip()] = _unquote(value.strip())
    return found


def _unquote(value: str) -> str:
    if "%" not in value:
        return value
    from urllib.parse import unquote  # noqa: PLC0415 - costs 5 ms, seldom needed

    return unquote(value)


def name_service(process: Process, selector: Selector | None, *, override: str = "", go_path: str = "") -> Name:
    """Choose the name. `override` is the operator's name for all targets."""
    attributes = parse_attributes(process.environment.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    namespace = attributes.get("service.namespace", "") or (selector.service_namespace if selector else "")
    chosen = (
        override,
        process.environment.get("OTEL_SERVICE_NAME", "").strip(),
        attributes.get("service.name", ""),
        selector.service_name if selector else "",
    )
    given = map(Named, chosen, GIVEN)
    name = next((one for one in given if one.name), None) or guess_name(process, go_path)
    return Name(_clean(name.name), name.source, namespace)


def guess_name(process: Process, go_path: str = "") -> Named:
    """By what it runs."""
    language = interpreter(process.exe)
    if titled := title_name(process, language):
        return titled
    name = _executable(process)
    rule = uwsgi if name.startswith("uwsgi") else RULES.get(language)
    if rule and len(process.command) > 1 and (found := rule(process)):
        return found
    if is_generic(name) and (package := _go_name(go_path)):
        return Named(package, "go package")
    if is_generic(name) and (directory := by_directory(_home(process))):
        return Named(directory, "executable directory")
    return Named(name, "executable")


def _home(process: Process) -> str:
    """The directory that says what a program called "main" is: `go run` builds in a temporary one."""
    return process.directory if "/go-build" in process.exe else process.exe.rpartition("/")[0]


def _go_name(path: str) -> str:
    """`github.com/acme/shop/cmd/server` -> shop: the last part that says something."""
    for part in reversed(path.split("/")):
        version = part[:1] == "v" and part[1:].isdecimal()
        if part and not version and not is_generic(part) and part != "command-line-arguments":
            return part
    return ""


def _executable(process: Process) -> str:
    name = process.exe.rpartition("/")[2]
    if (not name or name in _MULTI_CALL or process.exe.startswith("/memfd:")) and process.command:
        name = process.command[0].split(" ")[0].rpartition("/")[2].lstrip("-")
    return name or (process.stat.name if process.stat else "") or "unknown"


def _clean(name: str) -> str:
    return "".join(character if character.isprintable() else "_" for character in name.strip())[:MAX_NAME] or "unknown"
