"""Python: script, module, or the application that a known server was given."""

from __future__ import annotations

import re
from collections.abc import Sequence

from autoinstr.discover.naming.common import (
    Named,
    absolute,
    by_directory,
    by_module,
    by_path,
    option,
    skip_options,
    stem,
)
from autoinstr.discover.process import Process

_PYTHON_WITH_VALUE = ("-W", "-X", "-Q", "--check-hash-based-pycs")
_MODULE_SERVERS = ("gunicorn", "uvicorn", "hypercorn", "daphne", "granian", "waitress-serve", "waitress")
# Options of those servers that take no value, beside those that begin with `--no-`: what follows any other is not the
# application.
_SERVER_SWITCHES = """
--reload --daemon --preload --access-log --proxy-headers --use-colors --factory --check-config --print-config --sendfile
--enable-stdio-inheritance --debug --server-header --reuse-port --capture-output --spew --insecure --date-header -D -R
--ws --log --respawn-failed-workers
"""
_SWITCHES = frozenset(_SERVER_SWITCHES.split())
_DIRECTORY_OPTIONS = ("--app-dir", "--working-dir")  # of uvicorn, of granian; gunicorn goes into its --chdir by itself
_CONFIGURATION = re.compile(r"\.(ini|ya?ml|xml|json|conf)\Z")
_APPLICATION = re.compile(r"[A-Za-z_][\w.]*(:[\w.]+(\(.*\))?)?\Z")


def python(process: Process) -> Named | None:
    """Script, -m module, or the application that a known server was given."""
    arguments = process.command[1:]
    rest = iter(enumerate(arguments))
    for at, argument in rest:
        if argument in _PYTHON_WITH_VALUE:
            next(rest, None)
        elif found := re.match(r"-[bBdEhiIOPqRsSuvVx]*([mc])(.*)", argument):
            target = [found[2]] if found[2] else list(arguments[at + 1 : at + 2])
            if found[1] == "c" or not target:
                return None
            behind = arguments[at + (1 if found[2] else 2) :]
            return _python_tool(process, target[0], behind) or by_module(process, target[0], "module")
        elif not argument.startswith("-"):
            name = stem(argument)
            if name == "__main__":  # python -m package shows the path of the file on some versions
                name = stem(absolute(process, argument).rpartition("/")[0])
            tool = _python_tool(process, name, arguments[at + 1 :])
            return tool or by_path(process, argument, "script")
    return None


def _python_tool(process: Process, tool: str, arguments: Sequence[str]) -> Named | None:
    """Servers and launchers that run somebody else's application."""
    tool = tool.removesuffix(".__main__")
    if tool in ("uwsgi", "pyuwsgi"):
        return uwsgi(process)
    if tool in _MODULE_SERVERS:
        return _server_application(process, tool, arguments)
    if tool == "celery":
        module = option(arguments, "-A", "--app") or process.environment.get("CELERY_APP", "")
    elif tool == "flask":
        module = option(arguments, "--app", "-A") or process.environment.get("FLASK_APP", "app")
    elif tool in ("fastapi", "streamlit", "sanic", "robyn", "litestar"):
        module = next(
            skip_options([word for word in arguments if word not in ("run", "dev")], ("--port", "--host")), ""
        )
    else:
        return None
    if module and "/" in module:
        return by_path(process, module.partition(":")[0], tool)
    return by_module(process, module or "app", tool)


def uwsgi(process: Process) -> Named | None:
    """uWSGI is an executable of its own: its application, else its configuration, of which the last one counts."""
    arguments = process.command[1:]
    module = option(arguments, "--module", "-w", "--wsgi-file", "--file", "--psgi", "--rack")
    if module and "/" not in module:
        return by_module(process, module, "uwsgi")
    files = [word.partition("=")[2] or word for word in arguments if _CONFIGURATION.search(word)]
    path = _CONFIGURATION.sub("", module or next(reversed(files), ""))
    if not path:
        return None
    if stem(path) == "uwsgi" and (directory := by_directory(absolute(process, path).rpartition("/")[0])):
        return Named(directory, "uwsgi directory")
    return by_path(process, path, "uwsgi")


def _server_application(process: Process, tool: str, arguments: Sequence[str]) -> Named | None:
    named = option(arguments, "--name", "-n") if tool == "gunicorn" else ""
    if named:
        return Named(named, tool)
    module = ""
    words = iter(arguments)
    for word in words:
        if word.startswith("-"):
            apart = "=" not in word and (word.startswith("--") or len(word) == 2)  # not -w4
            if apart and word not in _SWITCHES and not word.startswith("--no-"):
                next(words, None)
        elif _APPLICATION.match(word) or word.endswith(".py"):
            module = word
            break
    if not module:  # an option was taken for one with a value: what looks like an application is one
        module = next((word for word in arguments if ":" in word and _APPLICATION.match(word)), "")
    if "/" in module:
        return by_path(process, module, tool)
    return by_module(process, module or "app", tool, option(arguments, *_DIRECTORY_OPTIONS))
