"""The side of the process that stays: starts the prober, receives descriptors, and holds them.

In:  limits and bounds. Out: `Attached`. While its descriptors are open the probes are attached; closing them, or the end
of this process for whatever reason, detaches.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from autoinstr.attach.limits import Limits
from autoinstr.attach.source import MARKER_FD
from autoinstr.errors import AutoinstrError
from autoinstr.model import DURATION_BOUNDS, SIZE_BOUNDS

FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO of the kernel
PROBER_SECONDS = 60


@dataclass(slots=True)
class Attached:
    """Descriptors of what is loaded, by name. `close` detaches."""

    maps: dict[str, int] = field(default_factory=dict)
    programs: dict[str, int] = field(default_factory=dict)
    probes: dict[str, int] = field(default_factory=dict)

    def close(self) -> None:
        """Detach all probes and release all maps."""
        for group in (self.probes, self.programs, self.maps):
            for fd in group.values():
                os.close(fd)
            group.clear()


def nested() -> bool:
    """Is this process in a PID namespace other than the kernel's first?"""
    return Path("/proc/self/ns/pid").stat().st_ino != FIRST_PID_NAMESPACE


def attach(
    limits: Limits, duration_bounds: Sequence[float] = DURATION_BOUNDS, size_bounds: Sequence[float] = SIZE_BOUNDS
) -> Attached:
    """Compile, load and attach, in a process of its own. AutoinstrError if the kernel or the compiler refuses."""
    request = {
        "limits": asdict(limits),
        "duration_bounds": list(duration_bounds),
        "size_bounds": list(size_bounds),
        "nested": nested(),
    }
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "autoinstr.attach.prober", str(theirs.fileno())]
        with subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL) as prober:
            theirs.close()
            ours.settimeout(PROBER_SECONDS)
            ours.sendall(json.dumps(request).encode() + b"\n")
            try:
                attached = receive(ours)
            except BaseException:
                prober.kill()
                raise
    if request["nested"]:
        tell_namespace()
    return attached


def receive(connection: socket.socket) -> Attached:
    """Read the prober's answer."""
    attached = Attached()
    while True:
        data, fds, _flags, _address = socket.recv_fds(connection, 1 << 16, 253)
        while data and not data.endswith(b"\n"):
            more = connection.recv(1 << 16)
            if not more:
                break
            data += more
        if not data.endswith(b"\n"):
            raise AutoinstrError("the process that loads the eBPF programs ended without an answer: out of memory?")
        message = json.loads(data)
        if "error" in message:
            raise AutoinstrError(f"can't load the eBPF programs: {message['error']}\n{message['log']}".rstrip())
        for name, fd in zip(message["names"], fds, strict=True):
            kind, _, rest = name.partition(":")
            {"map": attached.maps, "program": attached.programs, "probe": attached.probes}[kind][rest] = fd
        connection.sendall(b".")
        if message["last"]:
            return attached


def tell_namespace() -> None:
    """Tell the kernel side in which PID namespace this process numbers pids."""
    try:
        os.close(MARKER_FD)
    except OSError:
        return  # always: nobody has this descriptor; what matters is that the call was made
