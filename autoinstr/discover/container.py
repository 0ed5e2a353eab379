"""The id of the container that a process runs in: from its control groups, else from its mounts.

In: texts of /proc/<pid>/cgroup and mountinfo. Out: the id; empty if there is none. Pure.
"""

from __future__ import annotations

import re

# docker, containerd, cri-o and podman name the group after the container's 64 hex digits ("docker-<id>.scope",
# "/kubepods/.../<id>", "libpod-<id>"); ECS uses 32 hex digits, a dash and a number; Garden and Fargate likewise.
_GROUP = re.compile(r"(?:^|[/:_-])([0-9a-f]{64}|[0-9a-f]{32}-\d+)(?:\.scope)?(?:/(?:container|init|supervisor))?\Z")
# Inside a private cgroup namespace the group is only "/"; the runtime's files that it mounts have the id in their path.
_MOUNT = re.compile(
    r" (?:/\S*)?/(?:containers|overlay-containers)/([0-9a-f]{64})/\S* /etc/(?:hostname|hosts|resolv\.conf) "
)


def container_id(cgroup: str, mountinfo: str = "") -> str:
    """The innermost container's id."""
    for line in cgroup.splitlines():
        if found := _GROUP.search(line.rpartition(":")[2]):
            return found[1]
    found_mount = _MOUNT.search(mountinfo)
    return found_mount[1] if found_mount else ""
