"""Where it is measured, and for how long: a folder, an OTLP backend that costs next to nothing, and patience."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import generators
import servers
from servers import Running, Server

SINK = Server("sink", ("{python}", str(Path(__file__).with_name("sink.py")), "{port}"))


@dataclass(frozen=True)
class Place:
    """What all measurements share."""

    folder: Path
    sink: Running
    steady: Path  # the program
    rounds: int
    seconds: int  # of each load
    in_process: bool  # are in-process agents measured, too?

    def endpoint(self, name: str) -> str:
        """One of its own for whoever exports."""
        return f"http://127.0.0.1:{self.sink.port}/{name}"

    def exported(self, name: str) -> dict[str, int]:
        """Bytes that came to an endpoint, by what is below it."""
        with urllib.request.urlopen(self.endpoint(""), timeout=10) as response:
            taken: dict[str, int] = json.load(response)
        return {path.removeprefix(f"/{name}/"): size for path, size in taken.items() if path.startswith(f"/{name}/")}


@contextmanager
def place(rounds: int, seconds: int, *, in_process: bool) -> Iterator[Place]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        sink = servers.launch(SINK, folder / "sink")
        stack.callback(sink.stop)
        servers.wait_up(sink)
        yield Place(folder, sink, generators.build("steady", folder), rounds, seconds, in_process)
