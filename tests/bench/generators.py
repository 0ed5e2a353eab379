"""Load: wrk, h2load or grpc-go as fast as it goes, and `steady.c` at a fixed rate.

In: a port of this machine. Out: how many requests were answered, and how fast.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from servers import Running

HERE = Path(__file__).resolve().parent
CONNECTIONS = 32
STREAMS = 8  # of HTTP/2 at once, on each of CONNECTIONS / STREAMS connections
OWN_PATHS = 'local n = 0\nrequest = function() n = n + 1 return wrk.format("GET", "/item/" .. n) end\n'


@dataclass(frozen=True)
class Saturation:
    """What wrk tells. It does not count the requests that are in flight at its end: one a connection, if no script
    sends more of them at a time."""

    requests: int
    rate: float  # requests/s
    failed: int


@dataclass(frozen=True)
class Steady:
    """What steady.c tells, which waits for all answers."""

    requests: int
    rate: float  # lower than asked for if the server did not keep up
    failed: int
    p50_us: float
    p99_us: float


def saturate(server: Running, seconds: int, folder: Path, *, own: bool = False) -> Saturation:
    """As many requests as go, `CONNECTIONS` at a time, by what speaks the server's protocol.

    `own`: each call of gRPC has metadata of its own.
    """
    transport, port = server.server.transport, server.port
    if transport == "grpc":
        # the application's own program is a client, too
        command = [str(copy_of(server.folder / "grpc-go")), "load", str(port), str(seconds), *["own"] * own]
        return Saturation(**json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    if transport in ("h2c", "h2"):
        return h2load(port, seconds, scheme="http" if transport == "h2c" else "https")
    return wrk(port, seconds, folder, scheme=transport)


def copy_of(program: Path) -> Path:
    """A file of its own for who sends the load: probes are on files, and whoever runs the same one is hit by them."""
    copy = program.parent / "load" / program.name
    if not copy.exists():
        copy.parent.mkdir()
        shutil.copy2(program, copy)
    return copy


def h2load(port: int, seconds: int, scheme: str) -> Saturation:
    command = ["h2load", f"-c{CONNECTIONS // STREAMS}", f"-m{STREAMS}", f"-D{seconds}", "--warm-up-time=0"]
    done = subprocess.run([*command, f"{scheme}://127.0.0.1:{port}/item/1"], check=True, capture_output=True, text=True)
    found = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", done.stdout)
    assert found, done.stdout
    count, good = int(found[1]), int(found[2])
    return Saturation(count, count / seconds, count - good)


def wrk(port: int, seconds: int, folder: Path, script: str = OWN_PATHS, scheme: str = "http") -> Saturation:
    """As many requests as go over `CONNECTIONS` connections."""
    (folder / "wrk.lua").write_text(script)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(folder / "wrk.lua")]
    done = subprocess.run([*command, f"{scheme}://127.0.0.1:{port}"], check=True, capture_output=True, text=True)
    count, rate = re.search(r"(\d+) requests in", done.stdout), re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert count and rate, done.stdout
    errors = re.findall(r"Non-2xx or 3xx responses: (\d+)|(?:connect|read|write|timeout) (\d+)", done.stdout)
    return Saturation(int(count[1]), float(rate[1]), sum(int(number) for pair in errors for number in pair if number))


def build(name: str, folder: Path) -> Path:
    """The program of `name`.c of this folder."""
    program = folder / name
    subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-o", str(program), str(HERE / f"{name}.c")], check=True)
    return program


def steady(program: Path, port: int, rate: float, seconds: float) -> Steady:
    """`rate` requests a second over at most `CONNECTIONS` connections."""
    command = [str(program), str(port), f"{rate:g}", f"{seconds:g}", str(CONNECTIONS)]
    # a server that is several times too slow still comes to an end
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20 * seconds + 20)
    return Steady(**json.loads(done.stdout))
