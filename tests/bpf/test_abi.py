"""`capture/abi.py` says the same as `bpf/include/events.h`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from harness import ROOT

from autoinstr.capture import abi
from autoinstr.health import ORPHANS

STRUCTS = {
    "exchange": abi.EXCHANGE,
    "process": abi.PROCESS,
    "overflow": abi.OVERFLOW,
    "overflow_key": abi.OVERFLOW_KEY,
    "http2_part": abi.HTTP2_PART,
}
CONSTANTS = {
    "HEAD_SIZE": abi.HEAD_SIZE,
    "TRACEPARENT_SIZE": abi.TRACEPARENT_SIZE,
    "EXCHANGE_HEAD_CUT": abi.EXCHANGE_HEAD_CUT,
    "EXCHANGE_BODY_ABOUT": abi.EXCHANGE_BODY_ABOUT,
    "COUNT_MAX": abi.COUNTERS,
    **{name: value for name, value in vars(abi).items() if name.startswith("HTTP2_") and isinstance(value, int)},
    **{f"ROLE_{one.name}": one.value for one in abi.Role},
    **{f"PROTOCOL_{one.name}": one.value for one in abi.Protocol},
    **{f"FAMILY_{one.name}": one.value for one in abi.Family},
    **{f"ERROR_{one.name}": one.value for one in abi.Error},
    **{f"PROCESS_{one.name}": one.value for one in abi.ProcessKind},
    **{name: value for name, value in vars(abi).items() if name.startswith("TRACE_") and isinstance(value, int)},
    **{f"ORPHAN_{one.name}": number for number, one in enumerate(ORPHANS)},
    **{f"COUNT_{one.name}": one.value for one in abi.Counter},
}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, int]]:
    """Name -> (offset or value, size), as the compiler sees it."""
    folder = tmp_path_factory.mktemp("abi")
    lines = [f'printf("{name} %ld 0\\n", (long){name});' for name in CONSTANTS]
    for name, dtype in STRUCTS.items():
        lines.append(f'printf("{name} 0 %zu\\n", sizeof(struct {name}));')
        for part in dtype.names or ():
            member = f"((struct {name} *)0)->{part}"
            lines.append(f'printf("{name}.{part} %zu %zu\\n", offsetof(struct {name}, {part}), sizeof({member}));')
    head = "#include <linux/types.h>\n#include <stddef.h>\n#include <stdio.h>\n#include <include/events.h>\n"
    source = folder / "layout.c"
    source.write_text(head + "int main(void)\n{\n" + "\n".join(lines) + "\nreturn 0;\n}\n")
    subprocess.run(["gcc", "-o", str(folder / "layout"), str(source), f"-I{ROOT / 'bpf'}"], check=True)
    out = subprocess.run([str(Path(folder) / "layout")], check=True, capture_output=True, text=True).stdout
    return {name: (int(at), int(size)) for name, at, size in map(str.split, out.splitlines())}


@pytest.mark.parametrize("name", STRUCTS)
def test_layout(layout: dict[str, tuple[int, int]], name: str) -> None:
    dtype = STRUCTS[name]
    assert layout[name] == (0, dtype.itemsize)
    for part, (kind, offset, *_title) in (dtype.fields or {}).items():
        assert layout[f"{name}.{part}"] == (offset, kind.itemsize), part


def test_constants(layout: dict[str, tuple[int, int]]) -> None:
    assert {name: layout[name][0] for name in CONSTANTS} == CONSTANTS
