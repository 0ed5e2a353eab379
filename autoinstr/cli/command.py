"""What a command is."""

from __future__ import annotations

import argparse
from typing import Protocol


class Command(Protocol):
    """One word behind `autoinstr`. Its module imports little: what costs time is imported by `run`."""

    name: str
    summary: str
    description: str
    epilog: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare flags."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; the exit status. Raises `AutoinstrError` for everything that a user can act on."""
        ...
