"""From limits to attached probes: the steps of `attach/`, in order."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

from autoinstr.attach import btf, cache, source
from autoinstr.attach.compiler import compile_image
from autoinstr.attach.image import Image
from autoinstr.attach.limits import Limits
from autoinstr.attach.loader import COPIES, Attached, FunctionPrograms, attach_probes, load, programs
from autoinstr.attach.propagation import allow
from autoinstr.errors import AutoinstrError
from autoinstr.model import DURATION_BOUNDS, SIZE_BOUNDS

log = logging.getLogger(__name__)

PREEMPTS_PROBES = 7  # major version
FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO of the kernel


def nested() -> bool:
    """Is this process in a PID namespace other than the kernel's first?"""
    return Path("/proc/self/ns/pid").stat().st_ino != FIRST_PID_NAMESPACE


def probe_copies() -> int:
    """How often each probe has to be attached: from Linux 7 on, one may be interrupted by another task."""
    return len(COPIES) if int(platform.release().partition(".")[0]) >= PREEMPTS_PROBES else 1


def attach(
    limits: Limits,
    duration_bounds: Sequence[float] = DURATION_BOUNDS,
    size_bounds: Sequence[float] = SIZE_BOUNDS,
    *,
    propagate: Sequence[str] = (),
) -> Attached:
    """Compile (or find what was compiled before), load and attach. AutoinstrError if that can't be.

    `propagate`: ways to carry trace contexts to other hosts.
    """
    allow(propagate)
    attached = bring_in(limits, duration_bounds, size_bounds, propagate)
    attach_probes(attached, propagate)
    if nested():
        tell_namespace()
    return attached


def rehearse(limits: Limits) -> int:
    """Do all but attach, and release it again: number of programs. AutoinstrError as `attach` would raise it.

    What had to be compiled is kept, so that the next `attach` is quick.
    """
    loaded = bring_in(limits)
    try:
        loaded.load_rest()
        loaded.wait()
        return len(loaded.programs)
    finally:
        loaded.close()


def bring_in(
    limits: Limits,
    duration_bounds: Sequence[float] = DURATION_BOUNDS,
    size_bounds: Sequence[float] = SIZE_BOUNDS,
    propagate: Sequence[str] = (),
) -> Attached:
    """Maps and programs in the kernel, the quickest that its verifier takes."""
    make = partial(make_image, limits, duration_bounds, size_bounds, propagate)
    modern, image = True, make(modern=True)
    try:
        attached = load(image, limits)
    except AutoinstrError as error:
        modern, plain = False, make(modern=False)
        if plain == image:
            raise
        log.debug("trying again as for older kernels: %s", error)
        image, attached = plain, load(plain, limits)
        make(modern=True, instead=plain)  # the next start need not try
    attached.functions = FunctionPrograms(image, attached, partial(make, modern=modern, sessions=False))
    attached.functions.begin("tls")  # most targets have a TLS library
    return attached


def make_image(
    limits: Limits,
    duration_bounds: Sequence[float],
    size_bounds: Sequence[float],
    propagate: Sequence[str] = (),
    *,
    modern: bool,
    sessions: bool = True,
    instead: Image | None = None,
) -> Image:
    """The compiled kernel side for this kernel and these limits. `modern`: with what verifiers of later kernels take,
    where this one does; `sessions`: functions have one program for entry and return, where that can be; `instead`: to
    be kept in its place from now on.
    """
    root = source.folder()
    text = source.text(root)
    copies = probe_copies()
    flags = partial(
        source.flags, limits, duration_bounds, size_bounds, nested=nested(), copies=copies, propagate=propagate
    )
    # offsets follow from the types and who reads them, and to read them takes longer than to read the image
    how = [types_digest(), f"modern={modern}", f"sessions={sessions}"]
    how += [name for part in programs(copies, propagate, sessions=sessions) for name in part]
    path = cache.folder(os.environ) / cache.key(text, flags({}), how)
    image = instead or cache.read(path)
    if image is None:
        try:
            offsets = btf.of_kernel(btf.VMLINUX.read_bytes(), modern=modern, sessions=sessions)
        except (OSError, KeyError, ValueError) as error:
            raise undescribed(error) from error
        parts = programs(copies, propagate, sessions=f"KFUNC_{btf.SESSION}" in offsets)
        instead = image = compile_image(text, [*flags(offsets), f"-I{root}"], parts, root / "include" / "kernel")
    if instead:
        cache.write(path, instead)
    return image


@lru_cache(maxsize=1)
def types_digest() -> str:
    """Of the kernel's types and of who reads them: of this kernel's, read once and not kept, for these are megabytes.
    AutoinstrError: there are none.
    """
    try:
        with btf.VMLINUX.open("rb", buffering=0) as types:
            digest = hashlib.file_digest(types, "sha256")
    except OSError as error:
        raise undescribed(error) from error
    digest.update(Path(btf.__file__).read_bytes())
    return digest.hexdigest()


def undescribed(error: Exception) -> AutoinstrError:
    return AutoinstrError(
        f"this kernel does not describe its structures ({error}): /sys/kernel/btf/vmlinux is needed, which kernels"
        " built with CONFIG_DEBUG_INFO_BTF have; `autoinstr check` tells more"
    )


def tell_namespace() -> None:
    """Tell the kernel side in which PID namespace this process numbers pids."""
    try:
        os.close(source.MARKER_FD)
    except OSError:
        return  # always: nobody has this descriptor; what matters is that the call was made
