"""config: the settings of a run, from flags over environment over file over defaults."""

from autoinstr.config.load import load, require_selectors
from autoinstr.config.options import (
    EXCLUDING,
    EXPORTERS,
    OPTIONS,
    SELECTING,
    Config,
    Option,
    Routes,
    logged_from,
    parse_bool,
)
from autoinstr.config.record import settings_record

__all__ = [
    "EXCLUDING",
    "EXPORTERS",
    "OPTIONS",
    "SELECTING",
    "Config",
    "Option",
    "Routes",
    "load",
    "logged_from",
    "parse_bool",
    "require_selectors",
    "settings_record",
]
