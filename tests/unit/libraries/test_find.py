"""Libraries in what real processes have mapped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from autoinstr.libraries import LIBRARIES, find, mapped_files

WAIT = "import sys; print(flush=True); sys.stdin.read()"


def maps_of(program: str) -> tuple[int, bytes, subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline()
    return process.pid, Path(f"/proc/{process.pid}/maps").read_bytes(), process


def test_a_program_that_has_imported_ssl() -> None:
    pid, maps, process = maps_of(f"import ssl; {WAIT}")
    files = {Path(file.path).name: file for file in mapped_files(pid, maps)}
    (name,) = [name for name in files if name.startswith("libssl")]
    for path in files[name].opened:
        (found,) = find(path, LIBRARIES)
        assert found.library.name == "openssl"
        programs = {place.program for place in found.places}
        assert programs >= {"tls_handshake", "tls_read_ex", "tls_write_ex", "tls_free"}
    process.communicate()


def test_a_program_without_tls() -> None:
    pid, maps, process = maps_of(WAIT)
    files = list(mapped_files(pid, maps))
    assert len({file.key for file in files}) == len(files), "each file once"
    assert not [file.path for file in files if find(file.opened[0], LIBRARIES)]
    process.communicate()


def test_every_program_of_a_library_is_known_to_the_loader() -> None:
    from autoinstr.attach.loader import FUNCTION_PROBES  # noqa: PLC0415 - the registry knows nothing of the loader

    for library in LIBRARIES:
        for function in library.functions:
            assert {function.program, function.on_return} - {""} <= set(FUNCTION_PROBES)
