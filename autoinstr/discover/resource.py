"""The OTLP resource of a target: who it is, in OpenTelemetry's attribute names.

In: a process, its name and runtime, the agent's own attributes. Out: `Service`. Never the command line or any other
environment variable than the standard ones: they hold secrets.
"""

from __future__ import annotations

import os
import socket

from autoinstr import __version__
from autoinstr.discover.container import container_id
from autoinstr.discover.naming import Name, parse_attributes
from autoinstr.discover.process import Process
from autoinstr.model import Attributes, Service

# Those say which process it is: neither the agent's nor the target's own environment may make two of them equal.
_IDENTITY = ("service.name", "service.namespace", "service.instance.id")


def make_service(process: Process, name: Name, language: str, extra: Attributes) -> Service:
    """`extra`: the agent's OTEL_RESOURCE_ATTRIBUTES, on every resource."""
    host = socket.gethostname()
    attributes: Attributes = {"host.name": host}
    attributes |= extra
    attributes |= parse_attributes(process.environment.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    namespace = name.namespace or str(extra.get("service.namespace", ""))
    for key in _IDENTITY:
        attributes.pop(key, None)
    own: Attributes = {
        "service.name": name.name,
        "service.instance.id": f"{host}:{process.pid}",
        "process.pid": process.pid,
        "process.executable.name": process.exe.rpartition("/")[2] or name.name,
        "telemetry.sdk.name": "autoinstr",
        "telemetry.sdk.version": __version__,
        "telemetry.sdk.language": language,
    }
    if process.exe:
        own["process.executable.path"] = process.exe
    if namespace:
        own["service.namespace"] = namespace
    if container := find_container(process):
        own["container.id"] = container
    return Service(name.name, own | {key: value for key, value in attributes.items() if key not in own})


def find_container(process: Process) -> str:
    """Its container's id; empty if it is in none, or in the agent's own without a trace of the id."""
    found = container_id(process.cgroup)
    if found or not process.cgroup.rstrip().endswith(":/"):
        return found
    if not os.path.exists("/.dockerenv") and process.link("ns/mnt") == _own_mounts():  # noqa: PTH110
        return ""  # a process of the host itself: reading all mounts would be in vain
    return container_id("", process.mountinfo)


def _own_mounts() -> str:
    try:
        return os.readlink("/proc/self/ns/mnt")  # noqa: PTH115
    except OSError:
        return ""
