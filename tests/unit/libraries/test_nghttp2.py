"""Where nghttp2 keeps its tables, held against what the library itself says of a session."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from debian import Missing, Suite

from autoinstr.libraries import find, met
from autoinstr.libraries.nghttp2 import NGHTTP2, SIZE

needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
LIBRARY = ctypes.util.find_library("nghttp2")


@pytest.mark.skipif(not LIBRARY, reason="needs libnghttp2")
def test_sizes_lie_where_they_are_looked_for() -> None:
    own = ctypes.CDLL(LIBRARY)
    (path,) = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libnghttp2" in line}
    (found,) = find(path, (NGHTTP2,))
    callbacks, session = ctypes.c_void_p(), ctypes.c_void_p()
    assert own.nghttp2_session_callbacks_new(ctypes.byref(callbacks)) == 0
    assert own.nghttp2_session_client_new(ctypes.byref(session), callbacks, None) == 0
    deflater = own.nghttp2_session_get_hd_deflate_dynamic_table_size
    deflater.restype = ctypes.c_size_t
    assert session.value
    at = session.value + found.layout["deflater"] + SIZE
    size = ctypes.c_size_t.from_address(at)
    assert size.value == deflater(session) == 0
    size.value = 97
    assert deflater(session) == 97
    size.value = 0
    own.nghttp2_session_del(session)
    own.nghttp2_session_callbacks_del(callbacks)


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_inside_node() -> None:
    (found,) = find(str(Path(str(shutil.which("node"))).resolve()), (NGHTTP2,))
    assert 0 < found.layout["deflater"] < found.layout["inflater"] < 1 << 16
    assert found.places


SOURCE = """
#include <stddef.h>
struct table {{ char before[{size}]; size_t size; }};
struct session {{ char before[96]; struct table deflater, inflater; }};
size_t nghttp2_session_get_hd_deflate_dynamic_table_size(struct session *s) {{ return {deflater}; }}
size_t nghttp2_session_get_hd_inflate_dynamic_table_size(struct session *s) {{ return s->inflater.size; }}
void nghttp2_session_mem_recv(void) {{}}
"""


def built(folder: Path, deflater: str, *flags: str) -> dict[str, int]:
    (folder / "library.c").write_text(SOURCE.format(size=SIZE, deflater=deflater))
    command = ["gcc", "-O2", "-shared", "-fPIC", *flags, "-o", folder / "library.so", folder / "library.c"]
    subprocess.run(command, check=True)
    (found,) = find(str(folder / "library.so"), (NGHTTP2,))
    return found.layout


@needs_gcc
@pytest.mark.parametrize("marks", ["-fcf-protection=none", "-fcf-protection=full"])
def test_functions_with_marks_of_the_processor(tmp_path: Path, marks: str) -> None:
    """As Ubuntu builds them."""
    if platform.machine() != "x86_64":
        pytest.skip("these marks are x86-64's")
    assert built(tmp_path, "s->deflater.size", marks) == {"deflater": 96, "inflater": 96 + SIZE + 8}


@needs_gcc
def test_one_of_another_kind_is_said_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = met()
    assert built(tmp_path, "0") == {}
    find(str(tmp_path / "library.so"), (NGHTTP2,))
    assert met() - before == len(caplog.records) == 1


@pytest.mark.parametrize(("suite", "package"), [("bookworm", "libnghttp2-14"), ("trixie", "libnghttp2-14")])
def test_of_arm64(tmp_path: Path, suite: str, package: str) -> None:
    """Debian's own; the later one's functions begin with marks of the processor."""
    try:
        root = Suite(suite, "arm64").unpack([package], tmp_path)
    except Missing as reason:
        pytest.skip(f"needs Debian's packages: {reason}")
    (path,) = (path for path in root.glob("usr/lib/*/libnghttp2.so.14") if path.is_symlink())
    (found,) = find(str(path), (NGHTTP2,))
    assert 0 < found.layout["deflater"] < found.layout["inflater"] < 1 << 16
