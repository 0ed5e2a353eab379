"""The real command line, started as a user would, and what it wrote.

In: flags of `autoinstr run`. Out: spans as dictionaries, standard error, exit status.
Waits for lines and events only; whoever needs a span before the end waits for it with `wait_for`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from truth import path_of

PROGRAM = str(Path(sys.executable).parent / "autoinstr")
# The promises are 2 s to `ready` and 5 s to the end; the machine under test is busy with other things, too.
# An emulated one is slower by the factor that it says.
SLOWNESS = float(os.environ.get("TEST_SLOWNESS", "1"))
READY_WITHIN = 30.0 * SLOWNESS
END_WITHIN = 8.0 * SLOWNESS
# The environment of whoever runs the tests must not change what they mean.
UNWANTED = ("OTEL_", "AUTOINSTR_", "BEYLA_")


class Agent:
    """One run of the agent."""

    def __init__(
        self,
        *flags: str | int,
        environment: dict[str, str] | None = None,
        wrapper: Sequence[str] = (),
        exports: Sequence[str] = ("console",),
        program: Sequence[str | Path] = (PROGRAM,),
    ) -> None:
        options = [part for name in exports for part in ("--export", name)]
        if "console" in exports:
            options += ["--format", "json"]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(UNWANTED)}
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._changed = threading.Condition()
        self._started = time.monotonic()
        self.ready_after = 0.0
        self.process = subprocess.Popen(
            [*wrapper, *program, "run", *map(str, flags), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**kept, **(environment or {})},
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            with self._changed:
                lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        """The agent's own pid, also when a wrapper such as `unshare --fork` stands before it."""
        generation = [self.process.pid]
        while generation:
            for pid in generation:
                if Path(f"/proc/{pid}/comm").read_text().strip() == "autoinstr":
                    return pid
            generation = [int(child) for pid in generation for child in children(pid)]
        raise ProcessLookupError("the agent has ended")

    @property
    def page(self) -> str:
        """Where it is, with --ui."""
        found = re.search(r"^page: (\S+)$", self.stderr, re.MULTILINE)
        assert found, self.stderr
        return found[1]

    def wait_ready(self) -> Agent:
        with self._changed:
            self._changed.wait_for(lambda: self.is_ready() or self.process.poll() is not None, READY_WITHIN)
        assert self.is_ready(), f"agent is not ready (exit status {self.process.poll()}):\n{self.stderr}"
        self.ready_after = time.monotonic() - self._started
        return self

    def is_ready(self) -> bool:
        return any(line.startswith("ready") for line in self.errors)

    def wait_for(self, condition: Callable[[list[dict[str, Any]]], bool], timeout: float = 10.0) -> bool:
        """Wait until the spans told so far fulfil the condition."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self.spans), timeout)

    def wait_for_path(self, path: str, timeout: float = 10.0) -> bool:
        return self.wait_for(lambda spans: any(path_of(span) == path for span in spans), timeout)

    def stop(self, *, check: bool = True) -> list[dict[str, Any]]:
        """SIGTERM; all spans. AssertionError: it did not end by itself, in time, with status 0."""
        started = time.monotonic()
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        try:
            status: int | None = self.process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            status = None
            self.kill()
        for reader in self._readers:
            reader.join(5)
        if check:
            assert status == 0, f"exit status {status} after {time.monotonic() - started:.1f} s:\n{self.stderr}"
        return self.spans

    def kill(self) -> None:
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in list(self.lines) if line.startswith("{") and line.endswith("}\n")]

    @property
    def stderr(self) -> str:
        return "".join(self.errors)


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
