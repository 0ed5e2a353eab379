"""The kernel side as one text, and the macros that it is compiled with.

bcc rewrites map accesses only in the main text: a map used in an included file fails to load or silently vanishes. So
our own includes are put in place, once each, with `#line` marks that keep messages of the compiler readable.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from autoinstr.attach.limits import PAGE, Limits
from autoinstr.bcc_compile import KFUNC

INCLUDE = re.compile(r'^#include "([^"]+)"$', re.MULTILINE)

# A descriptor that no process has: the agent closes it to tell the kernel side who it is.
MARKER_FD = 0x7A11A5ED


def folder() -> Path:
    """Where bpf/ is: inside the package when installed from a wheel, beside it in a checkout."""
    packaged = Path(str(resources.files("autoinstr"))) / "bpf"
    return packaged if packaged.is_dir() else packaged.parent.parent / "bpf"


def text(root: Path) -> str:
    """main.bpf.c with its own includes in place."""

    def inlined(path: Path) -> str:
        body = INCLUDE.sub(lambda match: inlined(root / match[1]), path.read_text())
        return f'#line 1 "{path.relative_to(root)}"\n{body}\n'

    return inlined(root / "main.bpf.c")


def macro_list(values: Sequence[int]) -> str:
    """Values as the body of a macro over X: `X(1)X(2)`."""
    return "".join(f"X({value}ULL)" for value in values)


def flags(
    limits: Limits,
    duration_bounds: Sequence[float],
    size_bounds: Sequence[float],
    offsets: dict[str, int],
    *,
    nested: bool,
    copies: int,
    propagate: Sequence[str] = (),
) -> list[str]:
    """Compiler flags. Bounds: seconds and bytes. `nested`: the agent's PID namespace is not the kernel's first.

    `copies`: how often each probe is there (bpf/lib/probe.h). `propagate`: ways to carry trace contexts to other hosts.
    """
    values = {
        **offsets,
        "PROCESS_RING_PAGES": limits.process_ring // PAGE,
        "MAX_CONNECTIONS": limits.connections,
        "MAX_PIPELINED": limits.pipelined,
        "MAX_HTTP2": limits.http2_connections,
        "MAX_STREAMS": limits.streams,
        "MAX_AGGREGATES": limits.aggregates,
        "MAX_TLS_THREADS": limits.tls_threads,
        "MAX_CONTEXTS": limits.contexts,
        "MAX_OFFERS": limits.offers,
        "MAX_TLS_WORKS": limits.tls_works,
        "MAX_CIPHERTEXTS": limits.ciphertexts,
        "MAX_NAMES": limits.names,
        "MAX_POOL_WORKS": limits.pool_works,
        "MARKER_FD": f"{MARKER_FD}U",
        "KFUNC": KFUNC,
        "PROBE_COPIES": copies,
    }
    defined = [f"-D{name}={value}" for name, value in values.items()]
    defined.append(f"-DDURATION_BOUNDS(X)={macro_list([round(bound * 1e9) for bound in duration_bounds])}")
    defined.append(f"-DSIZE_BOUNDS(X)={macro_list([round(bound) for bound in size_bounds])}")
    if nested:
        defined.append("-DPID_NAMESPACE")
    defined += [f"-DPROPAGATE_{way.upper()}" for way in propagate]
    # bcc optimises by itself: once is enough; and debug information is only for people who read its output
    return ["-Wall", "-Werror", "-Wno-unused-function", "-g0", "-Xclang", "-disable-llvm-passes", *defined]
