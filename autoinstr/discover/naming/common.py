"""What the rules of all languages share: generic names, paths, options. Pure, but for what a process's /proc says."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from autoinstr.discover.process import Process


class Named(NamedTuple):
    """A name and where it came from."""

    name: str
    source: str


# They say what a file does in its project, not which project it is: the directory or package above says that.
_GENERIC_WORDS = """
__init__ __main__ app application asgi bin boot bootstrap build cli cmd code current dist home index launcher lib lib64
libexec local main manage opt out program release releases root run runserver sbin script scripts serve server
site-packages src srv start target test tests tmp usr var wsgi www
"""
_GENERIC = frozenset(_GENERIC_WORDS.split())
_SUFFIX = re.compile(
    r"\.(py|pyc|pyz|js|mjs|cjs|ts|tsx|rb|ru|php|pl|psgi|R|r|jl|lua|lisp|rkt|tcl|jar|war|java|dll|sh|exe)\Z"
)


def is_generic(name: str) -> bool:
    """Would a person never call a service so?"""
    return name.lower() in _GENERIC or not any(character.isalpha() for character in name)


def stem(path: str) -> str:
    """`/srv/shop/api.py` -> api; names without a known suffix stay as they are."""
    name = path.rstrip("/").rpartition("/")[2]
    return _SUFFIX.sub("", name) or name


def absolute(process: Process, path: str) -> str:
    """`path` as the process means it."""
    parts: list[str] = []
    for part in (PurePosixPath(process.directory) / path).parts[1:]:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/" + "/".join(parts)


def by_path(process: Process, path: str, source: str) -> Named:
    """The file's own name; where that is generic, that of the nearest directory above that is not."""
    own = stem(path)
    if not is_generic(own):
        return Named(own, source)
    if directory := by_directory(absolute(process, path).rpartition("/")[0]):
        return Named(directory, f"{source} directory")
    return Named(own, source)


def by_directory(directory: str) -> str:
    """The last part of the path that says something; empty if none does."""
    return next((part for part in reversed(directory.split("/")) if part and not is_generic(part)), "")


def by_module(process: Process, module: str, source: str, directory: str = "") -> Named:
    """`shop.main:app` -> shop; `main:app` -> the name of the directory that it is in; the module if nothing says more.

    `directory`: said with it; else it is the working one.
    """
    if module == "http.server":
        return Named(module, source)  # the standard library's own: the one module that serves by itself
    path = re.split(r"[:(]", module, maxsplit=1)[0]
    parts = stem(path).split(".") if "/" in path else path.removesuffix(".py").split(".")
    kept = len(parts)
    while kept and is_generic(parts[kept - 1]):
        kept -= 1
    if kept:
        return Named(".".join(parts[:kept]), source)
    if place := by_directory(absolute(process, directory)):
        return Named(place, f"{source} directory")
    return Named(path, source)


def skip_options(arguments: Sequence[str], with_value: Collection[str]) -> Iterator[str]:
    """The arguments from the first that is no option on; `with_value` are options that take the next argument."""
    rest = iter(arguments)
    for argument in rest:
        if argument in with_value:
            next(rest, None)
        elif not argument.startswith("-") or argument == "-":
            yield argument
            yield from rest


def option(arguments: Sequence[str], *names: str) -> str:
    """Value of `--name value`, `--name=value` or `-Nvalue`; empty if it is not there."""
    for at, argument in enumerate(arguments):
        for name in names:
            if argument == name and at + 1 < len(arguments):
                return arguments[at + 1]
            if argument.startswith(name + "="):
                return argument[len(name) + 1 :]
            if len(name) == 2 and name[1] != "-" and argument.startswith(name) and len(argument) > 2:
                return argument[2:]
    return ""
