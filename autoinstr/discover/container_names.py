"""What a container is called: from the files in which its runtime keeps that.

In: a container's id, and the mounts of a process in it. Out: attributes; none where the files can't be read, on the
host or through a mount. Never by a runtime's socket: that would take the right to do anything on the host. Nothing but
names is decoded: the rest has the container's environment.
"""

from __future__ import annotations

import os
import re
import stat
from functools import lru_cache
from pathlib import Path

import msgspec

from autoinstr.discover.pods import image_attributes
from autoinstr.model import Attributes

MAX_FILE = 8 << 20  # containers/storage: 2 kB a container

DOCKER = "/var/lib/docker/containers/{0}/config.v2.json"
# Podman and CRI-O keep theirs with containers/storage: one list of all containers, one of those that end with `--rm`.
STORAGE = "/var/lib/containers/storage"
_LISTS = ("containers.json", "volatile-containers.json")
# Elsewhere, as in the home of who runs Podman without root, where the container's root file system is.
_ROOT = re.compile(
    r"^\S+ \S+ \S+ /\S* / .* - overlay \S+ \S*\bupperdir=(/[^, ]*)/overlay/[0-9a-f]{64}/diff", re.MULTILINE
)
_ESCAPED = re.compile(r"\\([0-7]{3})")


class _DockerConfig(msgspec.Struct, rename="pascal"):
    image: str = ""


class _Docker(msgspec.Struct, rename="pascal"):
    name: str = ""
    config: _DockerConfig = msgspec.field(default_factory=_DockerConfig)


class _Stored(msgspec.Struct):
    id: str = ""
    names: list[str] | None = None
    metadata: str = ""  # JSON again


class _Metadata(msgspec.Struct, rename="kebab"):
    image_name: str = ""


def container_names(container: str, mountinfo: str) -> Attributes:
    """`container.name`, and the image by name and tag."""
    return _docker(container) or _stored(container, _storage(mountinfo))


def _docker(container: str) -> Attributes:
    try:
        found = msgspec.json.decode(_read(Path(DOCKER.format(container))), type=_Docker)
    except (OSError, msgspec.DecodeError):
        return {}
    return {"container.name": found.name.lstrip("/"), **image_attributes(found.config.image)}


def _storage(mountinfo: str) -> Path:
    found = _ROOT.search(mountinfo)
    return Path(_ESCAPED.sub(lambda code: chr(int(code[1], 8)), found[1]) if found else STORAGE)


def _stored(container: str, storage: Path) -> Attributes:
    for file in (storage / "overlay-containers" / name for name in _LISTS):
        try:
            state = file.stat()
        except OSError:
            continue
        if found := _list(file, state.st_ino, state.st_mtime_ns).get(container):
            return found
    return {}


@lru_cache(maxsize=8)
def _list(file: Path, _inode: int, _changed: int) -> dict[str, Attributes]:
    """By id; read again when the file is another one."""
    try:
        return {one.id: _named(one) for one in msgspec.json.decode(_read(file), type=list[_Stored])}
    except (OSError, msgspec.DecodeError):
        return {}


def _named(one: _Stored) -> Attributes:
    try:
        image = msgspec.json.decode(one.metadata, type=_Metadata).image_name
    except msgspec.DecodeError:
        image = ""
    return {**({"container.name": one.names[0]} if one.names else {}), **(image_attributes(image) if image else {})}


def _read(file: Path) -> bytes:
    """A regular file, and not more of it than it may have. The path may be a hostile container's choice."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as opened:
        return opened.read(MAX_FILE) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
