"""The short-lived process that compiles, loads and attaches, hands the descriptors over, and exits.

Run by `handover.py` as `python -m autoinstr.attach.prober FD`: FD is a Unix socket, from which one JSON line (the
request) is read, and to which descriptors and one JSON line (their names, or the error) are written.
It is the only module that imports bcc.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import tempfile
from typing import Any

from autoinstr.attach import btf, source
from autoinstr.attach.limits import Limits

# program -> raw tracepoint that it is attached to; the system calls last, when all is in place
PROGRAMS: dict[str, str] = {
    "sched_process_fork": "sched_process_fork",
    "sched_process_exec": "sched_process_exec",
    "sched_process_exit": "sched_process_exit",
    "inet_sock_set_state": "inet_sock_set_state",
    "tcp_destroy_sock": "tcp_destroy_sock",
    "sys_enter": "sys_enter",
    "sys_exit": "sys_exit",
}
STEPS = ("step", "finish")  # in the order of enum STEP_*
MAPS = ("targets", "ports", "control", "counters", "exchanges", "processes", "aggregate", "connections", "steps")

MAX_FDS_A_MESSAGE = 200  # the kernel allows 253 (SCM_MAX_FD)


class LoadError(Exception):
    """The kernel or the compiler refused: message for the user, with what it printed."""


def load(request: dict[str, Any]) -> dict[str, int]:
    """Compile, load and attach; descriptors by name: `map:...`, `program:...`, `probe:...`."""
    root = source.folder()
    os.environ["BCC_KERNEL_SOURCE"] = str(root / "include" / "kernel")
    try:
        from bcc import BPF, lib  # noqa: PLC0415 - only here, and only now: it costs 100 MB
    except ImportError as error:
        raise LoadError(
            f"{sys.executable} can't import bcc ({error}): install the distribution's package (Debian, Ubuntu: "
            "python3-bpfcc; Fedora: python3-bcc) and make the virtual environment from /usr/bin/python3 with "
            "--system-site-packages"
        ) from error
    flags = source.flags(
        root,
        Limits(**request["limits"]),
        btf.running_kernel(),
        request["duration_bounds"],
        request["size_bounds"],
        nested=request["nested"],
    )
    bpf = BPF(text=source.text(root).encode(), cflags=flags)
    for index, name in enumerate(STEPS):
        bpf["steps"][ctypes.c_int(index)] = ctypes.c_int(bpf.load_func(name, BPF.RAW_TRACEPOINT).fd)
    for role in (0, 2, 3):
        table = bpf["aggregate"]
        key = table.Key()
        key.role = role
        table[key] = table.Leaf()
    fds = {f"map:{name}": bpf[name].map_fd for name in MAPS}
    programs = {name: bpf.load_func(name, BPF.RAW_TRACEPOINT) for name in PROGRAMS}
    fds |= {f"program:{name}": function.fd for name, function in programs.items()}
    for name, tracepoint in PROGRAMS.items():
        fd = lib.bpf_attach_raw_tracepoint(programs[name].fd, tracepoint.encode())
        if fd < 0:
            raise LoadError(f"can't attach to the raw tracepoint {tracepoint}: {os.strerror(-fd)}")
        fds[f"probe:{name}"] = fd
    return fds


def main() -> int:
    connection = socket.socket(fileno=int(sys.argv[1]))
    request = json.loads(connection.makefile("r").readline())
    # what compiler and verifier print goes to a file, and to the user only if it fails
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 2)
        os.dup2(output.fileno(), 1)
        try:
            fds = load(request)
        except Exception as error:  # the boundary of this process: everything is told to the one that asked
            sys.stderr.flush()
            output.seek(0)
            log = output.read()[-20000:].decode(errors="replace")
            message = {"error": str(error) or type(error).__name__, "log": log}
            connection.sendall(json.dumps(message).encode() + b"\n")
            return 1
        names = list(fds)
        for i in range(0, len(names), MAX_FDS_A_MESSAGE):
            part = names[i : i + MAX_FDS_A_MESSAGE]
            socket.send_fds(connection, [json.dumps({"names": part, "last": i + len(part) == len(names)}).encode() + b"\n"], [fds[name] for name in part])
            connection.recv(1)  # one message at a time: descriptors belong to the bytes that they came with
    # nothing here is worth tidying up, and bcc would detach
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
