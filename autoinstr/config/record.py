"""The settings in force as a plain object, for the page. Never a secret: the environment's values, tokens."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from autoinstr.config.options import Config

SECRET = ("environment", "ui_token", "selection", "routes")


def settings_record(config: Config) -> dict[str, Any]:
    """By the names of `Config`, with what is selected in the user's own words."""
    found = {name: getattr(config, name) for name in config.__slots__ if name not in SECRET}
    return {
        **found,
        "select": [str(selector) for selector in config.selection.selectors],
        "exclude": [str(selector) for selector in config.selection.exclude],
        "routes": asdict(config.routes),
        "environment": sorted(config.environment),
    }
