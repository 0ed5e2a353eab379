"""config: the settings of a run, from flags over environment over file over defaults."""

from autoinstr.config.load import load, require_selectors
from autoinstr.config.options import EXCLUDING, EXPORTERS, OPTIONS, SELECTING, Config, Option, Routes, parse_bool

__all__ = [
    "EXCLUDING",
    "EXPORTERS",
    "OPTIONS",
    "SELECTING",
    "Config",
    "Option",
    "Routes",
    "load",
    "parse_bool",
    "require_selectors",
]
