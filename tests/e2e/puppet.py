"""A process that does what the test tells it: the two ends of a conversation live in two of these, both watched.

In: functions by name with their arguments. Out: their results. Both travel over plain pipes, which the agent ignores:
what the sockets of a puppet carry is what the test asked for, and nothing else.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))


class Puppet:
    """The test's side: `puppet.call(function, ...)` runs a function of an importable module over there, in a thread."""

    def __init__(self) -> None:
        commands_in, commands_out = os.pipe()
        answers_in, answers_out = os.pipe()
        self.process = Popen(
            [sys.executable, __file__, str(commands_in), str(answers_out)], pass_fds=(commands_in, answers_out)
        )
        os.close(commands_in)
        os.close(answers_out)
        self._commands = Connection(commands_out, readable=False)
        self._answers = Connection(answers_in, writable=False)
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Puppet:
        self.call(os.getpid).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._commands.close()
        try:
            self.process.wait(2)
        except TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def call(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            number = len(self._waiting)
            self._waiting[number] = future
            self._commands.send((number, function, args))
        return future

    def _read(self) -> None:
        try:
            while True:
                number, result, error = self._answers.recv()
                if error:
                    self._waiting[number].set_exception(RuntimeError(error))
                else:
                    self._waiting[number].set_result(result)
        except EOFError:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(RuntimeError("the puppet has ended"))


def obey(commands: Connection, answers: Connection) -> None:
    """The puppet's side: until the test closes its end."""
    lock = threading.Lock()

    def run(number: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        result, error = None, ""
        try:
            result = function(*args)
        except Exception:  # whatever goes wrong is the test's to judge
            error = traceback.format_exc()
        with lock:
            answers.send((number, result, error))

    while True:
        try:
            command = commands.recv()
        except EOFError:
            os._exit(0)
        threading.Thread(target=run, args=command, daemon=True).start()


if __name__ == "__main__":
    obey(Connection(int(sys.argv[1]), writable=False), Connection(int(sys.argv[2]), readable=False))
