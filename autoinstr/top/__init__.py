"""top: the live table in the terminal, from the JSON API of a running agent."""

from autoinstr.top.client import Client
from autoinstr.top.once import print_json, print_table
from autoinstr.top.screen import show

__all__ = ["Client", "print_json", "print_table", "show"]
