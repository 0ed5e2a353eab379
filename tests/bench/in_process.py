"""The agents that users would put inside their application instead: installed on demand, as their documentation says.

Kept in .cache/bench, apart from the project's own environment. `LackingError` says why one can't be had.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from servers import Server

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "bench"
INSTALL_WITHIN = 300.0
# the same versions of the application's own packages as without the agent
SHARED = ("fastapi", "flask", "gunicorn", "uvicorn")
PYTHON_AGENT = (
    "opentelemetry-distro",
    "opentelemetry-exporter-otlp",
    "opentelemetry-instrumentation-fastapi",
    "opentelemetry-instrumentation-flask",
)
NODE_AGENT = ("@opentelemetry/api", "@opentelemetry/auto-instrumentations-node")


class LackingError(Exception):
    """Something that a measurement needs is not on this machine."""


@dataclass(frozen=True)
class InProcess:
    """An installed agent, and how a server is started with it."""

    title: str
    wrapper: Sequence[str] = ()
    environment: tuple[tuple[str, str], ...] = ()
    scripts: Path | None = None  # where Python's programs are, if not where they are without the agent

    def inside(self, server: Server) -> Server:
        return replace(server, command=(*self.wrapper, *server.command))


def install(folder: Path, title: str, *commands: Sequence[str]) -> Path:
    """Run the commands, once. What they print is kept beside the folder."""
    done = folder / ".installed"
    if not done.exists():
        print(f"installing {title} into {folder} (once, about a minute) ...", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        with Path(f"{folder}.log").open("wb") as log:
            for command in commands:
                try:
                    subprocess.run(command, check=True, stdout=log, stderr=log, cwd=folder, timeout=INSTALL_WITHIN)
                except (OSError, subprocess.SubprocessError) as error:
                    raise LackingError(f"{title} could not be installed: {error}; see {log.name}") from error
        done.touch()
    return folder


def python() -> InProcess:
    folder, title = CACHE / "python", "opentelemetry-instrument"
    own = [f"{name}=={metadata.version(name)}" for name in SHARED]
    pip = [f"{folder}/bin/pip", "install", "--disable-pip-version-check", *PYTHON_AGENT, *own]
    install(folder, title, [sys.executable, "-m", "venv", str(folder)], pip)
    scripts = folder / "bin"
    return InProcess(title, wrapper=(f"{scripts}/opentelemetry-instrument",), scripts=scripts)


def node() -> InProcess:
    title = "auto-instrumentations-node"
    folder = install(CACHE / "node", title, ["npm", "install", "--prefix", ".", "--no-audit", "--no-fund", *NODE_AGENT])
    register = (
        folder / "node_modules" / "@opentelemetry" / "auto-instrumentations-node" / "build" / "src" / "register.js"
    )
    return InProcess(title, environment=(("NODE_OPTIONS", f"--require {register}"),))
