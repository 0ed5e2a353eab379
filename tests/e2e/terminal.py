"""A program in a terminal of 80x24, by a terminal emulator: what a user would see, and keys."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import struct
import time
from fcntl import ioctl
from termios import TIOCSWINSZ

import pyte

WIDTH, HEIGHT = 80, 24


class Terminal:
    def __init__(self, *command: str) -> None:
        self.screen = pyte.Screen(WIDTH, HEIGHT)
        self._stream = pyte.ByteStream(self.screen)
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.environ.update(TERM="xterm-256color", COLUMNS=str(WIDTH), LINES=str(HEIGHT))
            os.execv(command[0], command)
        ioctl(self._fd, TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._fd)

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    def press(self, *keys: str) -> None:
        for key in keys:
            os.write(self._fd, key.encode())
            self._read(0.2)

    def wait(self, text: str, seconds: float = 20.0) -> None:
        """Until it is on the screen."""
        end = time.monotonic() + seconds
        while text not in self.text:
            assert time.monotonic() < end, f"{text!r} is not in\n{self.text}"
            self._read(0.2)

    def end(self) -> int:
        """Its exit status."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            self._read(0.1)  # at once, if it has closed its terminal
            time.sleep(0.01)
        raise AssertionError(f"it does not end:\n{self.text}")

    def _read(self, seconds: float) -> None:
        while select.select((self._fd,), (), (), seconds)[0]:
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # it has ended
                return
            self._stream.feed(data)
            seconds = 0
