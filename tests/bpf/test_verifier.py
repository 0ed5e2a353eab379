"""All programs are far from what the kernel's verifier is willing to follow, for this kernel and as for older ones."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

import pytest

from autoinstr.attach.attach import make_image
from autoinstr.attach.limits import Limits
from autoinstr.attach.loader import FunctionPrograms, load
from autoinstr.model import DURATION_BOUNDS, SIZE_BOUNDS

FAR = 750_000  # instructions, of a million (BPF_COMPLEXITY_LIMIT_INSNS): kernels differ
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads programs"),
    pytest.mark.timeout(120),
]
ALL = ("tcp", "headers")  # of `go` most kernels that are locked down refuse some programs


@pytest.mark.parametrize(("modern", "propagate"), [(False, ()), (False, ALL), (True, ALL)])
def test_far_from_the_limit(modern: bool, propagate: tuple[str, ...]) -> None:
    make = partial(make_image, Limits(), DURATION_BOUNDS, SIZE_BOUNDS, propagate, modern=modern)
    attached = load(make(), Limits())
    try:
        attached.functions = FunctionPrograms(make(), attached, partial(make, sessions=False))
        attached.load_rest()
        attached.wait()
        followed = {name: instructions(fd) for name, fd in attached.programs.items()}
    finally:
        attached.close()
    assert {name: count for name, count in followed.items() if count > FAR} == {}


def instructions(program: int) -> int:
    """That were followed; 0: Linux before 5.16 does not tell."""
    found = re.search(r"^verified_insns:\s+(\d+)", Path(f"/proc/self/fdinfo/{program}").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
