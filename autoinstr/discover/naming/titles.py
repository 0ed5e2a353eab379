"""Names from the titles that servers write over their command line."""

from __future__ import annotations

import re

from autoinstr.discover.naming.common import Named, by_directory, by_module, by_path
from autoinstr.discover.naming.nodejs import package
from autoinstr.discover.process import Process

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
    if language == "nodejs" and (named := package(process, process.directory)):
        return named
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
