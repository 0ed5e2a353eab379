"""Compiles the kernel side with bcc, in processes of their own (`bcc_compile.py`), which share the work.

In: source and flags. Out: an `Image`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from autoinstr.attach.image import Image
from autoinstr.bcc_compile import APART
from autoinstr.errors import AutoinstrError

COMPILE_SECONDS = 600
# Bytes in which two compilers fit, of 130 MB each, with their maps and the agent.
ROOM = 448 << 20
APARTS = re.compile(r"^APART\((\w+),", re.MULTILINE)  # functions of the text: see bpf/lib/http1.h
COMMAND = [sys.executable, "-c", "import sys; from autoinstr.bcc_compile import main; sys.exit(main())"]


def compile_image(source: str, flags: Sequence[str], parts: Sequence[Sequence[str]], headers: Path) -> Image:
    """The image of all programs, whose names come in parts that are compiled at the same time.

    AutoinstrError with the compiler's words if it fails.
    """
    names = [name for part in parts for name in part]
    if len(os.sched_getaffinity(0)) == 1 or memory_left() < ROOM:
        parts = [names]
    functions = APARTS.findall(source)
    flags = [*flags, *(f"-DAPART_{name}={APART + number}" for number, name in enumerate(functions))]
    request = {"source": source, "functions": functions}
    with ThreadPoolExecutor(len(parts)) as pool:
        wanted = [{"programs": part, "flags": [*flags, *_chosen(names, part)]} for part in parts]
        images = list(pool.map(lambda part: _compile(request | part, headers), wanted))
    return Image(images[0].maps, tuple(program for image in images for program in image.programs))


def memory_left(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process may take, by the machine and by its control group, if that can be seen."""
    available = re.search(r"^MemAvailable:\s+(\d+) kB", (proc / "meminfo").read_text(), re.MULTILINE)
    found = [int(available[1]) << 10] if available else []
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds not in {"", "memory"}:
            continue
        folder, limit, used = (
            (groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
            if kinds
            else (groups, "memory.max", "memory.current")
        )
        for place in {folder, folder / path.lstrip("/")}:
            with contextlib.suppress(OSError, ValueError):  # not there, or "max"
                found.append(int((place / limit).read_text()) - int((place / used).read_text()))
    return min(found, default=ROOM)


def _chosen(names: Sequence[str], part: Sequence[str]) -> list[str]:
    """Flags for lib/probe.h: of static functions that nobody calls nothing is made."""
    return [f"-DPROGRAM_{name}={'' if name in part else 'static'}" for name in names]


def _compile(request: dict[str, Any], headers: Path) -> Image:
    try:
        done = subprocess.run(
            COMMAND,
            input=json.dumps(request),
            env=os.environ | {"BCC_KERNEL_SOURCE": str(headers)},
            text=True,
            capture_output=True,
            timeout=COMPILE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AutoinstrError(f"compiling the eBPF programs took more than {COMPILE_SECONDS} s: gave up") from error
    if done.returncode:
        raise AutoinstrError(f"can't compile the eBPF programs: {done.stderr.strip()[-8000:] or 'out of memory?'}")
    return Image.from_json(done.stdout)
