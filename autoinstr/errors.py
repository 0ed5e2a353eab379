"""The errors that a user may see. A message says what, which process or library, why, and what to do."""

from __future__ import annotations


class AutoinstrError(Exception):
    """Something a user can act on: printed as it is, without a traceback, exit status 1."""


class UsageError(AutoinstrError):
    """Wrong flag, environment variable or configuration file: exit status 2."""


class ParseError(ValueError):
    """Bytes from the network that are not what they claim to be. Never leaves the parse stage."""
