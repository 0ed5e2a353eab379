"""The ids of the container and the pod that a process runs in: from its control groups, else from its mounts.

In: texts of /proc/<pid>/cgroup and mountinfo. Out: the ids; empty if there are none. Pure.
"""

from __future__ import annotations

import re

# docker, containerd, cri-o and podman name the group after the container's 64 hex digits ("docker-<id>.scope",
# "/kubepods/.../<id>", "libpod-<id>"); ECS uses 32 hex digits, a dash and a number; Garden and Fargate likewise.
# Their monitors ("libpod-conmon-<id>.scope", "crio-conmon-<id>") run outside of it.
_GROUP = re.compile(
    r"(?:^|[/:_]|(?<!conmon)-)([0-9a-f]{64}|[0-9a-f]{32}-\d+)(?:\.scope)?(?:/(?:container|init|supervisor))?\Z"
)
# The same anywhere in the path: systemd in a container, or nested containers, make groups below it.
_ABOVE = re.compile(r"[/:_-]([0-9a-f]{64})(?:\.scope)?(?=/)")
# Where the group tells nothing (a private cgroup namespace, podman's `--cgroups=disabled`), the runtime's files that it
# mounts have the id in their path. In a pod those are of another container, that which holds the pod's network.
_MOUNT = re.compile(r" (?:/\S*)?/(?:[a-z]+-)?containers/([0-9a-f]{64})/\S* /etc/(?:hostname|hosts|resolv\.conf) ")
_MOUNT_OF_POD = "/etc-hosts /etc/hosts "
# kubelet's group of a pod: "pod<uid>", by systemd's rules "kubepods-burstable-pod<uid with _ for ->.slice". The uid of
# a pod from a file on the node has no dashes.
_POD = re.compile(
    r"[/-]pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?(?:[/:]|$)", re.MULTILINE
)


def container_id(cgroup: str, mountinfo: str = "") -> str:
    """The innermost container's id."""
    groups = [line.split(":", 2)[-1] for line in cgroup.splitlines()]
    for line in cgroup.splitlines():
        if found := _GROUP.search(line.rpartition(":")[2]):
            return found[1]
    for group in groups:
        if above := _ABOVE.findall(group):
            return str(above[-1])
    found_mount = _MOUNT.search(mountinfo)
    return found_mount[1] if found_mount and _MOUNT_OF_POD not in mountinfo else ""


def pod_uid(cgroup: str) -> str:
    """The uid of its Kubernetes pod, as the API writes it."""
    found = _POD.search(cgroup)
    return found[1].replace("_", "-") if found else ""
