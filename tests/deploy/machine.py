"""Commands and waiting, for tests that start programs of others."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Found = TypeVar("Found")
SLOWNESS = float(os.environ.get("TEST_SLOWNESS", "1"))  # of a machine that is busy with other things


def run(*command: str | Path, **options: Any) -> str:
    """Its output; RuntimeError with what it said, if it failed."""
    done = subprocess.run([*map(str, command)], text=True, capture_output=True, check=False, **options)
    if done.returncode:
        said = f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        raise RuntimeError(f"{' '.join(map(str, command))}: status {done.returncode}\n{said}")
    return done.stdout


def attempt(*command: str | Path, **options: Any) -> bool:
    """Whether it worked: for what may be gone already."""
    return not subprocess.run([*map(str, command)], capture_output=True, check=False, **options).returncode


def commands(page: str, place: str) -> list[str]:
    """Of the only block of commands after that place of a page, as they stand there; comments aside."""
    (found,) = re.findall(rf"^{place}.*?```sh\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    return [line.split("  #")[0].strip() for line in found.splitlines() if line.strip()]


def wait_for(ask: Callable[[], Found], what: str, seconds: float = 60) -> Found:
    """What `ask` says as soon as it is something; an exception of `ask` counts as nothing until time is over."""
    end = time.monotonic() + seconds * SLOWNESS
    problem: Exception | None = None
    while True:
        try:
            problem = None
            if found := ask():
                return found
        except (OSError, RuntimeError, AssertionError, ValueError, LookupError) as error:
            problem = error
        if time.monotonic() > end:
            raise TimeoutError(f"not in {seconds:.0f} s: {what}") from problem
        time.sleep(0.2)
