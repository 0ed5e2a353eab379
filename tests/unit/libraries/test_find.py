"""Libraries in what real processes have mapped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from autoinstr.attach import functions
from autoinstr.libraries import (
    IF_ASKED,
    LIBRARIES,
    OF_OLDER,
    File,
    Identity,
    Library,
    Place,
    Unread,
    find,
    identity_of,
    mapped_files,
    unread,
)
from autoinstr.libraries.find import LARGE
from autoinstr.probes import GROUPS

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
    assert not [
        file.path for file in files if any(one.library.group == "tls" for one in find(file.opened[0], LIBRARIES))
    ]
    process.communicate()


def a_libssl() -> bytes:
    pid, maps, process = maps_of(f"import ssl; {WAIT}")
    (file,) = [file for file in mapped_files(pid, maps) if Path(file.path).name.startswith("libssl")]
    content = Path(file.opened[1]).read_bytes()
    process.communicate()
    return content


def test_another_file_at_the_same_inode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "attach_uprobes", lambda *_, **__: [])
    path, told = tmp_path / "libssl.so.9", []
    probes = functions.Functions(lambda _: None, lambda pid, *_: told.append(pid), GROUPS)
    unread = Unread(LIBRARIES)
    content = a_libssl()
    path.write_bytes(b"nothing")
    maps = f"1000-2000 r-xp 00000000 00:99 {path.stat().st_ino} {path}\n".encode()
    (file,) = mapped_files(os.getpid(), maps)
    probes.follow(os.getpid(), maps)
    assert not told
    assert unread.tls_in(file) == path.name
    path.write_bytes(content)
    probes.follow(os.getpid(), maps)
    assert told
    assert not unread.tls_in(file)


@pytest.mark.parametrize("module", [functions, unread])
def test_a_process_that_ends_while_it_is_looked_at(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is concluded from it, for the next process with the same files."""
    monkeypatch.setattr(functions, "attach_uprobes", lambda *_, **__: [])
    probes = functions.Functions(lambda _: None, lambda *_: None, GROUPS)
    names = unread.Unread(LIBRARIES)
    ended, maps, process = maps_of(f"import ssl; {WAIT}")

    def then_it_ends(file: File) -> Identity:
        found = identity_of(file)
        process.kill()
        process.wait()
        return found

    (file,) = [file for file in mapped_files(ended, maps) if Path(file.path).name.startswith("libssl")]
    with monkeypatch.context() as patch:
        patch.setattr(module, "identity_of", then_it_ends)
        if module is functions:
            probes._consider(probes._always, file, 0.0)
        else:
            assert not names.tls_in(file)
    assert process.returncode
    assert not caplog.records
    pid, maps, process = maps_of(f"import ssl; {WAIT}")
    probes.follow(pid, maps)
    assert file.path in [probed["path"] for probed in probes.files()]
    assert not [name for file in mapped_files(pid, maps) if (name := names.tls_in(file))]
    process.communicate()


def test_every_program_of_a_library_is_known_to_the_loader() -> None:
    from autoinstr.attach.loader import FUNCTION_PROBES  # noqa: PLC0415 - the registry knows nothing of the loader
    from autoinstr.attach.propagation import PROGRAMS  # noqa: PLC0415 - as above

    for library in (*LIBRARIES, *OF_OLDER, *IF_ASKED):
        for function in library.functions:
            assert {function.program, function.on_return} - {""} <= {*FUNCTION_PROBES, *PROGRAMS["go"]}


def test_go_is_never_probed_on_return() -> None:
    """That changes the return address, and Go crashes on it; so do programs that run on entry and return."""
    from autoinstr.attach.loader import TLS_PROBES  # noqa: PLC0415 - as above

    of_go = [library for library in LIBRARIES if library.name not in ("openssl", "gnutls")]
    assert of_go
    assert not {function.program for library in of_go for function in library.functions} & set(TLS_PROBES)


def test_copies_are_looked_at_once(tmp_path: Path) -> None:
    """As in many containers. A file that claims to be the same, and is not, is looked at."""
    looked = []

    def look(descriptor: int, _: object) -> list[Place]:
        looked.append(os.pread(descriptor, 1, LARGE + 99))
        return [Place(len(looked), "tls_read")]

    library = Library("of a test", (), places=look)
    note = 'asm(".section .note.go.buildid, \\"a\\"; .ascii \\"of one program\\"");'
    command = ["gcc", "-shared", "-o", tmp_path / "one", "-x", "c", "-"]
    subprocess.run(command, check=True, input=note, text=True)
    whole = (tmp_path / "one").read_bytes().ljust(LARGE + 99, b"\0")
    for name, end in (("one", b"1"), ("copy", b"1"), ("liar", b"2")):
        (tmp_path / name).write_bytes(whole + end)
    for _ in range(2):
        found = [find(str(tmp_path / name), [library])[0].places[0].offset for name in ("one", "copy", "liar")]
        assert found == [1, 1, 2]
    assert looked == [b"1", b"2"]
    other = Library("another one", (), places=look)
    assert find(str(tmp_path / "copy"), [other])[0].places[0].offset == 3


def test_large_files_without_a_build_id_are_looked_at_each(tmp_path: Path) -> None:
    looked = []

    def look(*_: object) -> list[Place]:
        looked.append(1)
        return []

    for name in ("one", "copy"):
        (tmp_path / name).write_bytes(b"\x7fELF\2\1".ljust(LARGE + 1, b"\0"))
        assert find(str(tmp_path / name), [Library("none", (), places=look)]) == []
    assert len(looked) == 2
