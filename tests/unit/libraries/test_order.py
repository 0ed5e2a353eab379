"""In which order functions of TLS libraries are probed: see `Library.functions`."""

from __future__ import annotations

import pytest

from autoinstr.libraries import LIBRARIES, Library
from autoinstr.libraries.openssl import INNER


@pytest.mark.parametrize("library", [one for one in LIBRARIES if one.group == "tls"], ids=lambda one: one.name)
def test_what_writes_is_probed_first(library: Library) -> None:
    programs = [function.program for function in library.functions]
    writes = [at for at, program in enumerate(programs) if "write" in program]
    reads = [at for at, program in enumerate(programs) if "read" in program]
    assert max(writes) < min(reads)


def test_inner_functions_too() -> None:
    assert [one.function.program for one in INNER] == ["tls_write_ex", "tls_read_ex"]
