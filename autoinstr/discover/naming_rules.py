"""Service names from command lines, one rule per interpreter.

In: a process whose executable is an interpreter. Out: `Named`, or None where the command line says nothing better than
the executable. Reads only the command line, working directory and, for Node, package.json inside the process's root.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from autoinstr.discover.process import Process

MAX_PARENTS = 8  # directories above a script in which package.json is looked for


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


def is_generic(name: str) -> bool:
    """Would a person never call a service so?"""
    return name.lower() in _GENERIC or not any(character.isalpha() for character in name)


def stem(path: str) -> str:
    """`/srv/shop/api.py` -> api; names without a known suffix stay as they are."""
    name = path.rstrip("/").rpartition("/")[2]
    return re.sub(r"\.(py|pyc|pyz|js|mjs|cjs|ts|tsx|rb|ru|php|pl|psgi|jar|war|java|dll|sh|exe)\Z", "", name) or name


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


def by_module(process: Process, module: str, source: str) -> Named:
    """`shop.main:app` -> shop; `main:app` -> the working directory's name; the module if nothing says more."""
    if module == "http.server":
        return Named(module, source)  # the standard library's own: the one module that serves by itself
    path = re.split(r"[:(]", module, maxsplit=1)[0]
    parts = stem(path).split(".") if "/" in path else path.removesuffix(".py").split(".")
    kept = len(parts)
    while kept and is_generic(parts[kept - 1]):
        kept -= 1
    if kept:
        return Named(".".join(parts[:kept]), source)
    if directory := by_directory(process.directory):
        return Named(directory, f"{source} directory")
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


# --- titles that servers write over their command line


_TITLES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"gunicorn: \w+ \[(?P<module>[^\]]+)\]"), "gunicorn"),
    (re.compile(r"\[celeryd: .*?\(.*?(?:-A|--app)[ =](?P<module>[\w.:]+)"), "celery"),
    (re.compile(r"puma[: ].*\[(?P<name>[^\]]+)\]\s*\Z"), "puma"),
    (re.compile(r"sidekiq [\d.]+ (?P<name>\S+) \["), "sidekiq"),
    (re.compile(r"php-fpm: pool (?P<name>\S+)"), "php-fpm pool"),
    (re.compile(r"Passenger \w+App: (?P<path>\S+)"), "passenger"),
)


def title_name(process: Process, language: str) -> Named | None:
    """By the title, if the process wrote one and it is known."""
    if len(process.command) != 1 or " " not in process.command[0]:
        return None
    for pattern, source in _TITLES:
        if found := pattern.match(process.command[0]):
            return _from_title(process, found, source)
    if language == "nodejs" and (package := _package(process, process.directory)):
        return package
    if language in ("nodejs", "ruby", "python", "perl") and (directory := by_directory(process.directory)):
        return Named(directory, "directory")
    return None


def _from_title(process: Process, found: re.Match[str], source: str) -> Named | None:
    groups = found.groupdict()
    if "module" in groups:
        return by_module(process, groups["module"], source)
    if "path" in groups:
        return by_path(process, groups["path"], source)
    return None if groups["name"] == "www" else Named(groups["name"], source)


# --- python


_PYTHON_WITH_VALUE = ("-W", "-X", "-Q", "--check-hash-based-pycs")
_MODULE_SERVERS = ("gunicorn", "uvicorn", "hypercorn", "daphne", "granian", "waitress-serve", "waitress", "uwsgi")
# Options of those servers that take no value: what follows any other is not the application.
_SERVER_SWITCHES = """
--reload --daemon --preload --access-log --no-access-log --proxy-headers --no-proxy-headers --use-colors --factory
--check-config --print-config --sendfile --no-sendfile --enable-stdio-inheritance --debug --server-header
--no-server-header --reuse-port --capture-output --spew --insecure --date-header --no-date-header -D -R
"""
_SWITCHES = frozenset(_SERVER_SWITCHES.split())
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


def _server_application(process: Process, tool: str, arguments: Sequence[str]) -> Named | None:
    named = option(arguments, "--name", "-n") if tool == "gunicorn" else ""
    if named:
        return Named(named, tool)
    module = option(arguments, "--module", "-w", "--wsgi-file", "--mount") if tool == "uwsgi" else ""
    words = iter(arguments)
    for word in words:
        if module:
            break
        if word.startswith("-"):
            apart = "=" not in word and (word.startswith("--") or len(word) == 2)  # not -w4
            if apart and word not in _SWITCHES:
                next(words, None)
        elif _APPLICATION.match(word) or word.endswith(".py"):
            module = word
    if not module:  # an option was taken for one with a value: what looks like an application is one
        module = next((word for word in arguments if ":" in word and _APPLICATION.match(word)), "")
    if "/" in module:
        return by_path(process, module, tool)
    return by_module(process, module or "app", tool)


# --- node


_NODE_WITH_VALUE = ("-r", "--require", "--import", "--loader", "--experimental-loader", "--env-file", "-C", "--title")
_NODE_LAUNCHERS = ("npm", "npx", "yarn", "pnpm", "npm-cli", "npx-cli", "nodemon", "pm2", "tsx", "ts-node", "turbo")


def nodejs(process: Process) -> Named | None:
    """`name` of the nearest package.json above the script, else the script."""
    words = list(skip_options(process.command[1:], _NODE_WITH_VALUE))
    words = words[1:] if words[:1] == ["run"] else words  # bun run, deno run
    script = next((word for word in words if not word.startswith("-")), "")
    if not script:
        return None
    path = absolute(process, script)
    directory, inside, _ = path.partition("/node_modules/")
    if stem(script) in _NODE_LAUNCHERS or inside:
        globally = not inside or directory.endswith("/lib")  # /usr/lib/node_modules/npm/bin/npm-cli.js
        directory = process.directory if globally else directory
    else:
        directory = path.rpartition("/")[0]
    return _package(process, directory) or by_path(process, script, "script")


def _package(process: Process, directory: str) -> Named | None:
    """By package.json in the directory or above it."""
    for _ in range(MAX_PARENTS):
        if text := process.read_file(f"{directory}/package.json"):
            name = _package_name(text)
            return Named(name, "package.json") if name else None
        if directory in ("", "/"):
            return None
        directory = directory.rpartition("/")[0]
    return None


def _package_name(text: bytes) -> str:
    import json  # noqa: PLC0415 - only Node needs it

    try:
        package = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    name = package.get("name") if isinstance(package, dict) else None
    name = name.rpartition("/")[2] if isinstance(name, str) else ""  # without the scope: @acme/shop
    return "" if is_generic(name) else name


# --- java


_JAVA_OPTIONS = """
-cp -classpath --class-path -p --module-path --upgrade-module-path --add-modules --add-exports --add-opens
--add-reads --patch-module --source --limit-modules --enable-native-access
"""
_JAVA_WITH_VALUE = frozenset(_JAVA_OPTIONS.split())
_JAVA_PROPERTIES = ("otel.service.name", "spring.application.name", "quarkus.application.name", "app.name")
_JAVA_SERVERS = {
    "org.apache.catalina.startup.Bootstrap": "tomcat",
    "org.apache.zookeeper.server.quorum.QuorumPeerMain": "zookeeper",
    "org.elasticsearch.bootstrap.Elasticsearch": "elasticsearch",
    "org.elasticsearch.server.cli.ServerCli": "elasticsearch",
    "kafka.Kafka": "kafka",
    "org.eclipse.jetty.start.Main": "jetty",
    "org.jboss.modules.Main": "wildfly",
}
_VERSION = re.compile(
    r"[-_.]v?\d+(\.\d+)*([-.+_](SNAPSHOT|RELEASE|FINAL|GA|RC\d*|M\d+|\w*\d\w*))*([-_.](all|exec|fat))?\Z", re.I
)
_JAR_KIND = re.compile(r"[-_.](all|exec|fat|runner|jar-with-dependencies|with-dependencies|shaded|boot)\Z", re.I)


def java(process: Process) -> Named | None:
    """A name property, the jar without its version, or the main class."""
    arguments = process.command[1:]
    for name in _JAVA_PROPERTIES:
        for argument in arguments:
            for mark in (f"-D{name}=", f"--{name}="):
                if argument.startswith(mark) and len(argument) > len(mark):
                    return Named(argument[len(mark) :], name)
    if named := process.environment.get("SPRING_APPLICATION_NAME"):
        return Named(named, "SPRING_APPLICATION_NAME")
    words = iter(arguments)
    for word in words:
        if word == "-jar":
            return _jar(process, next(words, ""))
        if word in ("-m", "--module"):
            module, _, main = next(words, "").partition("/")
            return _main_class(process, main or module)
        if word in _JAVA_WITH_VALUE:
            next(words, None)
        elif not word.startswith(("-", "@")):
            return by_path(process, word, "script") if word.endswith(".java") else _main_class(process, word)
    return None


def _jar(process: Process, path: str) -> Named | None:
    own = re.sub(r"\.(jar|war)\Z", "", path.rpartition("/")[2])
    for pattern in (_JAR_KIND, _VERSION, _JAR_KIND):
        own = pattern.sub("", own)
    if own and not is_generic(own):
        return Named(own, "jar")
    return by_path(process, path, "jar") if path else None


def _main_class(process: Process, name: str) -> Named | None:
    if name in _JAVA_SERVERS:
        base = option(process.command, "-Dcatalina.base", "-Djetty.base", "-Djboss.server.base.dir").rstrip("/")
        directory = by_directory(base) if base else ""
        return Named(directory or _JAVA_SERVERS[name], "directory" if directory else "main class")
    parts = [part for part in re.split(r"[.$]", name) if part]
    last = next((part for part in reversed(parts) if not is_generic(part)), "")
    return Named(last, "main class") if last else None


# --- ruby, php, perl, dotnet


_RUBY_WITH_VALUE = ("-I", "-r", "-C", "-E", "-F")
_RUBY_SERVERS = ("rails", "rackup", "puma", "unicorn", "thin", "falcon", "bundle", "rake", "sidekiq", "config")


def ruby(process: Process) -> Named | None:
    """The script; for application servers the directory that they serve."""
    script = next(skip_options(process.command[1:], _RUBY_WITH_VALUE), "")
    if not script:
        return None
    if stem(script) in _RUBY_SERVERS and (directory := by_directory(process.directory)):
        return Named(directory, "directory")
    return by_path(process, script, "script")


def php(process: Process) -> Named | None:
    """The script; for `php -S` and artisan the directory that they serve."""
    arguments = process.command[1:]
    served = option(arguments, "-t")
    script = next(skip_options(arguments, ("-S", "-t", "-c", "-d", "-z")), "")
    if script and stem(script) not in ("artisan", "console", "router", "octane", "swoole-server"):
        return by_path(process, script, "script")
    directory = by_directory(absolute(process, served or ".").removesuffix("/public"))
    return Named(directory, "directory") if directory else None


def perl(process: Process) -> Named | None:
    """The script; for PSGI servers the application file."""
    words = list(skip_options(process.command[1:], ("-I", "-M", "-m", "-e", "-E")))
    application = next((word for word in words if word.endswith(".psgi")), "")
    script = application or next(iter(words), "")
    return by_path(process, script, "script") if script and "-e" not in process.command[:2] else None


def dotnet(process: Process) -> Named | None:
    """`dotnet Shop.Api.dll` -> Shop.Api; `dotnet run` -> its directory."""
    words = [word for word in process.command[1:] if not word.startswith("-")]
    library = next((word for word in words if word.endswith((".dll", ".exe"))), "")
    if library:
        return by_path(process, library, "assembly")
    directory = by_directory(process.directory)
    return Named(directory, "directory") if directory and words[:1] in (["run"], ["watch"]) else None


def erlang(process: Process) -> Named | None:
    """Elixir and Erlang releases: the directory of the release, else the node's name."""
    root = option(process.command, "-root")
    name = option(process.command, "-sname", "-name").partition("@")[0] or by_directory(root)
    return Named(name, "node name") if name else None


RULES: dict[str, Callable[[Process], Named | None]] = {
    "python": python,
    "nodejs": nodejs,
    "java": java,
    "ruby": ruby,
    "php": php,
    "perl": perl,
    "dotnet": dotnet,
    "erlang": erlang,
}
