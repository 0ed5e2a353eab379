"""Keeps the compiled kernel side between runs: compiling takes seconds, loading a fraction of one.

A file by the hash of everything that it was made from: source, flags, the kernel's types. What is loaded from here runs
in the kernel, so a file that others could have written is not looked at.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoinstr.attach.image import Image

log = logging.getLogger(__name__)

KEPT = 8  # images of other kernels, versions and settings
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def folder(environment: Mapping[str, str]) -> Path:
    """$AUTOINSTR_CACHE_DIR, or where the system keeps caches."""
    if own := environment.get("AUTOINSTR_CACHE_DIR"):
        return Path(own)
    if os.geteuid() == 0:
        return Path("/var/cache/autoinstr")
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autoinstr"


def key(source: str, flags: Sequence[str], others: Sequence[str]) -> str:
    """What the image is made from, as a file name."""
    parts = (platform.machine(), source, *flags, *others)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32] + ".json"


def read(path: Path) -> Image | None:
    """The image there, if there is one that only we can have written."""
    try:
        for place in (path.parent, path):
            found = place.stat()
            if found.st_uid != os.geteuid() or found.st_mode & OTHERS_MAY_WRITE:
                log.warning("%s may be written by others: not used", place)
                return None
        return Image.from_json(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("the cached programs in %s can't be used (%s): compiling anew", path, error)
        return None


def write(path: Path, image: Image) -> None:
    """Keep the image; where that is not possible, the next start takes longer."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(image.to_json())
        part.rename(path)
        others = sorted(path.parent.glob("*.json"), key=lambda one: one.stat().st_mtime)
        for old in others[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        log.debug("the compiled programs can't be kept: %s", error)
