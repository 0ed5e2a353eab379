"""Ruby, PHP, Perl, .NET, Erlang, others: the script or assembly, or the directory that an application server serves."""

from __future__ import annotations

from autoinstr.discover.naming.common import Named, absolute, by_directory, by_path, option, skip_options, stem
from autoinstr.discover.process import Process

_RUBY_WITH_VALUE = ("-I", "-r", "-C", "-E", "-F")
_RUBY_SERVERS = ("rails", "rackup", "puma", "unicorn", "thin", "falcon", "bundle", "rake", "sidekiq", "config")

_SUFFIXES = (".R", ".r", ".jl", ".lua", ".lisp", ".rkt", ".tcl")


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


def by_suffix(process: Process) -> Named | None:
    """R, Julia, Lua, Lisp, Racket, Tcl: the first file that is called as theirs are; else the directory."""
    values = (word.rpartition("=")[2] if word.startswith("-") else word for word in process.command[1:])
    script = next((word for word in values if word.endswith(_SUFFIXES)), "")
    if script:
        return by_path(process, script, "script")
    directory = by_directory(process.directory)
    return Named(directory, "directory") if directory else None


def dotnet(process: Process) -> Named | None:
    """`dotnet Shop.Api.dll` -> Shop.Api; `dotnet run` -> its directory."""
    words = [word for word in process.command[1:] if not word.startswith("-")]
    library = next((word for word in words if word.endswith((".dll", ".exe"))), "")
    if library:
        return by_path(process, library, "assembly")
    directory = by_directory(process.directory)
    return Named(directory, "directory") if directory and words[:1] in (["run"], ["watch"]) else None


def erlang(process: Process) -> Named | None:
    """The script of `escript`; Elixir and Erlang releases: the directory of the release, else the node's name."""
    script = option(process.command, "-extra") if option(process.command, "-run") == "escript" else ""
    if script:
        return by_path(process, script, "script")
    root = option(process.command, "-root")
    name = option(process.command, "-sname", "-name").partition("@")[0] or by_directory(root)
    return Named(name, "node name") if name else None
