"""The OTLP resource of a target: who it is, in OpenTelemetry's attribute names.

In: a process, its name and runtime, the agent's own attributes, what its pod is called. Out: `Service`. Never the
command line or any other environment variable than the standard ones: they hold secrets.
"""

from __future__ import annotations

import os
import socket
from dataclasses import replace

from autoinstr import __version__
from autoinstr.discover.container import container_id, pod_uid
from autoinstr.discover.container_names import container_names
from autoinstr.discover.naming import Name, parse_attributes
from autoinstr.discover.pods import Names
from autoinstr.discover.process import Process
from autoinstr.model import Attributes, Service

# Those say which process it is: neither the agent's nor the target's own environment may make two of them equal.
_IDENTITY = ("service.name", "service.namespace", "service.instance.id")


# Docker and Podman leave one of these in every container.
_IN_CONTAINER = ("/.dockerenv", "/run/.containerenv")


def make_service(process: Process, name: Name, language: str, extra: Attributes) -> Service:
    """`extra`: the agent's OTEL_RESOURCE_ATTRIBUTES, on every resource."""
    host = str(extra.get("host.name", "")) or socket.gethostname()  # in a container ours is not the host's
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
        own |= container_names(container, process.mountinfo)
    if pod := pod_uid(process.cgroup):
        own["k8s.pod.uid"] = pod
    return Service(name.name, own | {key: value for key, value in attributes.items() if key not in own})


def lacks_names(service: Service) -> bool:
    """It runs in a container of Kubernetes that we don't know the name of yet."""
    return "container.id" in service.attributes and "k8s.container.name" not in service.attributes


def with_names(service: Service, names: Names, *, rename: bool) -> Service:
    """With what its pod is called. Attributes that were given stay; `rename`: its own name was only a guess."""
    known = service.attributes
    given = {"service.name": names.service} if rename else {}
    added = {
        "k8s.pod.uid": names.attributes["k8s.pod.uid"],  # of a pod from a file: its group had another one
        **({"service.namespace": names.namespace} if "service.namespace" not in known else {}),
        **{key: value for key, value in names.attributes.items() if key not in known},
    }
    return replace(service, name=names.service if rename else service.name, attributes=known | given | added)


def find_container(process: Process) -> str:
    """Its container's id; empty if it is in none, or in the agent's own without a trace of the id."""
    if found := container_id(process.cgroup):
        return found
    if not any(map(os.path.exists, _IN_CONTAINER)) and process.link("ns/mnt") == _own_mounts():
        return ""  # a process of the host itself: reading all mounts would be in vain
    return container_id("", process.mountinfo)


def _own_mounts() -> str:
    try:
        return os.readlink("/proc/self/ns/mnt")  # noqa: PTH115
    except OSError:
        return ""
