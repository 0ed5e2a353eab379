"""Keys of a terminal, one at a time, without waiting for Enter.

In: standard input. Out: characters, and names for keys that have none.
"""

from __future__ import annotations

import codecs
import os
import select
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = {
    "\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left", "\x1b[H": "home", "\x1b[F": "end",
    "\x1bOA": "up", "\x1bOB": "down", "\x1bOC": "right", "\x1bOD": "left", "\x1bOH": "home", "\x1bOF": "end",
    "\x1b[1~": "home", "\x1b[4~": "end", "\x1b": "escape", "\r": "enter", "\n": "enter",
    "\x7f": "backspace", "\x08": "backspace", "\x03": "ctrl-c",
}  # fmt: skip
ENOUGH = 1024  # bytes at a time: what was pasted


@contextmanager
def raw(terminal: int) -> Iterator[None]:
    """Keys come at once and are not shown, until the end."""
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def read_keys(terminal: int, timeout: float) -> list[str]:
    """Those that were pressed, if any is within `timeout` seconds. OSError: the terminal is gone."""
    if not select.select((terminal,), (), (), timeout)[0]:
        return []
    data = os.read(terminal, ENOUGH)
    if not data:
        raise OSError("the terminal is gone")
    return split(codecs.decode(data, "utf-8", "replace"))


def split(text: str) -> list[str]:
    """Characters and the sequences that stand for keys; sequences that are not known are left out."""
    found: list[str] = []
    while text:
        length = 1
        if text[0] == "\x1b" and text[1:2] in ("[", "O"):
            length = 3
            while length < len(text) and text[1] == "[" and not text[length - 1].isalpha() and text[length - 1] != "~":
                length += 1
        key, text = text[:length], text[length:]
        name = NAMES.get(key, key if len(key) == 1 and key.isprintable() else "")
        if name:
            found.append(name)
    return found
