"""Where nghttp2 keeps its tables, held against what the library itself says of a session."""

from __future__ import annotations

import ctypes
import ctypes.util
import shutil
from pathlib import Path

import pytest

from autoinstr.libraries import find
from autoinstr.libraries.nghttp2 import NGHTTP2, SIZE

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
