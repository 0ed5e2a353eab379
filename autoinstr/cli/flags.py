"""The flags that `run` and `targets` share, made from the tables of `config/options.py`, and their words in --help."""

from __future__ import annotations

import argparse

from autoinstr.address import DEFAULT_PAGE
from autoinstr.config import EXCLUDING, OPTIONS, SELECTING, Option, parse_bool

HOW_SELECTED = """how processes are selected:
  Every selecting flag is a selector of its own, and a process that matches any of them is watched as a whole, on all
  of its ports; so are its children, and processes that start later. In a configuration file the keys of one entry
  must all match. Globs are the shell's, except that * crosses slashes. Flags replace the selectors of the
  environment, and those replace the file's; what is excluded adds up. Agents and collectors (autoinstr, otelcol*,
  alloy, beyla ...) are left out unless --include-agents is given or --pid asks for them; so are systemd, docker-proxy
  and the like, which hold a port for somebody else."""

HOW_SET = """where settings come from:
  Flags over environment over file over defaults. The standard OTEL_* variables are honoured: OTEL_EXPORTER_OTLP_*
  (ENDPOINT, PROTOCOL, HEADERS, TIMEOUT, COMPRESSION, CERTIFICATE, CLIENT_KEY, CLIENT_CERTIFICATE, INSECURE; also
  _TRACES_, _METRICS_ and _LOGS_ forms), OTEL_SERVICE_NAME (names all targets), OTEL_RESOURCE_ATTRIBUTES (added to all),
  OTEL_METRIC_EXPORT_INTERVAL (ms), OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG,
  OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE, OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION."""

# Flags whose name is not that of the Config field.
FLAG_OF = {"exports": "--export"}


def flag_of(option: Option) -> str:
    """The flag of an option."""
    return FLAG_OF.get(option.name, f"--{option.name.replace('_', '-')}")


def add_selecting(parser: argparse.ArgumentParser) -> None:
    """--port, --exe, --cmd, --pid, --exclude-exe, --include-agents, --config."""
    group = parser.add_argument_group("which processes (each flag may be repeated)")
    metavars = {"port": "PORTS", "exe": "GLOB", "cmd": "GLOB", "pid": "PID"}
    for name, variable, _, text in SELECTING:
        group.add_argument(f"--{name}", action="append", metavar=metavars[name], help=f"{text} [{variable}]")
    name, variable, _, text = EXCLUDING
    group.add_argument("--exclude-exe", dest=name, action="append", metavar="GLOB", help=f"{text} [{variable}]")
    group.add_argument(
        "--include-agents",
        action="store_const",
        const=True,
        help="watch agents and collectors too [AUTOINSTR_INCLUDE_AGENTS]",
    )
    group.add_argument("--config", metavar="FILE", help="selectors and settings from a YAML file [AUTOINSTR_CONFIG]")


def add_option(group: argparse._ArgumentGroup, option: Option) -> None:
    """One line of `config.OPTIONS`."""
    text = f"{option.help} [{', '.join(option.environment)}]".replace("%", "%%")
    flag = flag_of(option)
    if option.parse is parse_bool:
        group.add_argument(flag, dest=option.name, action="store_const", const=True, help=text)
    elif option.name == "ui":
        group.add_argument(flag, dest=option.name, nargs="?", const=DEFAULT_PAGE, metavar=option.metavar, help=text)
    elif option.name == "exports":
        group.add_argument(flag, dest=option.name, action="append", metavar=option.metavar, help=text)
    elif option.choices:
        group.add_argument(flag, dest=option.name, choices=option.choices, help=text)
    else:
        group.add_argument(flag, dest=option.name, metavar=option.metavar, help=text)


def add_options(parser: argparse.ArgumentParser, title: str, names: tuple[str, ...] = ()) -> None:
    """Those options that have a flag, all or the named ones."""
    group = parser.add_argument_group(title)
    for option in OPTIONS:
        if option.flag and (not names or option.name in names):
            add_option(group, option)
