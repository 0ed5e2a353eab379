"""Languages, libraries and obstacles, of real processes where the tools are at hand."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoinstr.discover.process import Process
from autoinstr.discover.runtime import Runtimes, find_libraries, interpreter
from autoinstr.elf import Binary, read_binary

from .conftest import Spawner, wait_until

RING = Path(__file__).with_name("ring.py")


def binary_of(path: str | Path) -> Binary:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return read_binary(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("exe", "language"),
    [
        ("/usr/bin/python3.11", "python"),
        ("/usr/bin/python3.13t", "python"),
        ("/usr/bin/pypy3", "python"),
        ("/x/java", "java"),
        ("/x/node", "nodejs"),
        ("/x/bun", "nodejs"),
        ("/x/bun.exe", "nodejs"),
        ("/x/beam.smp", "erlang"),
        ("/x/ruby3.1", "ruby"),
        ("/x/php-fpm8.2", "php"),
        ("/x/dotnet", "dotnet"),
        ("/x/perl5.36.0", "perl"),
        ("/usr/lib/R/bin/exec/R", "r"),
        ("/usr/bin/luajit-2.1.0-beta3", "lua"),
        ("/usr/bin/lua5.4", "lua"),
        ("/usr/bin/tclsh8.6", "tcl"),
        ("/x/luakit", ""),
        ("/x/Rover", ""),
        ("/x/pythonista-server", ""),
        ("/x/nodes", ""),
        ("", ""),
    ],
)
def test_interpreter(exe: str, language: str) -> None:
    assert interpreter(exe) == language


def test_python_with_tls(spawn: Spawner) -> None:
    process, _ = spawn.script("x.py", "import ssl, time\nprint(1, flush=True)\ntime.sleep(60)")
    found = Runtimes().look(Process(process.pid))
    assert found.language == "python"
    assert any(name.startswith("libssl.so") for name in found.libraries)
    assert found.unseen == ()


def test_tls_without_known_functions_is_named(spawn: Spawner, tmp_path: Path) -> None:
    """grpcio has BoringSSL inside and no symbols; a library may be known by its name alone."""
    shutil.copy("/bin/true", tmp_path / "libmbedtls.so.14")
    code = (
        "import mmap, time, grpc\n"
        f"with open('{tmp_path}/libmbedtls.so.14', 'rb') as file:\n"
        "    kept = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)\n"
        "print(1, flush=True)\ntime.sleep(60)"
    )
    process, _ = spawn.script("x.py", code)
    (reason,) = Runtimes().look(Process(process.pid)).unseen
    assert reason.startswith("tls: OpenSSL or BoringSSL in cygrpc")
    assert "libmbedtls.so.14" in reason


def test_plain_c(spawn: Spawner) -> None:
    process = spawn("/bin/sleep", "60")
    wait_until(lambda: Path(f"/proc/{process.pid}/exe").readlink().name == "sleep")
    found = Runtimes().look(Process(process.pid))
    assert (found.language, found.libraries, found.unseen) == ("cpp", (), ())


def test_mapped_libraries() -> None:
    process = Process(1)
    process.exe = "/usr/bin/x"
    process.maps = (
        b"7f00-7f01 r-xp 0 08:01 1  /usr/lib/libssl.so.3\n"
        b"7f01-7f02 r-xp 0 08:01 1  /usr/lib/libssl.so.3\n"
        b"7f02-7f03 r-xp 0 08:01 2  /usr/lib/libnghttp2.so.14.2 (deleted)\n"
        b"7f03-7f04 r-xp 0 08:01 3  /usr/lib/libc.so.6\n"
        b"7f04-7f05 r-xp 0 08:01 4  /srv/notlibssl.so\n"
    )
    assert find_libraries(process) == ("libnghttp2.so.14.2", "libssl.so.3")


def rings(process: Process) -> list[str]:
    return [reason for reason in Runtimes().look(process).unseen if reason.startswith("io_uring")]


@pytest.mark.parametrize(
    ("submitted", "results", "carry"),
    [
        (["epoll"], [0], False),  # as libuv does
        (["file"], [8], False),
        (["socket"], [5], True),
        (["send"], [8], True),
        (["receive"], [5], True),
        (["epoll", "receive"], [0, 5], True),
        (["receive", "epoll"], [5, 0], True),
        (["file", "epoll"], [8, 0], False),
    ],
)
def test_io_uring_is_told_where_it_carries_traffic(
    spawn: Spawner, submitted: list[str], results: list[int], *, carry: bool
) -> None:
    process, came = spawn.script("ring.py", RING.read_text(), *submitted)
    if not came:
        pytest.skip("this kernel refuses io_uring")
    assert came == results
    assert len(rings(Process(process.pid))) == carry


def test_a_ring_that_can_not_be_read_is_told(spawn: Spawner) -> None:
    code = (
        "import ctypes, time\np = ctypes.create_string_buffer(120)\n"
        "print(ctypes.CDLL(None).syscall(425, 4, p), flush=True)\ntime.sleep(60)"
    )
    process, (descriptor,) = spawn.script("ring.py", code)
    if descriptor < 0:
        pytest.skip("this kernel refuses io_uring")
    (reason,) = rings(Process(process.pid))
    assert "not seen" in reason


def test_32_bit_is_told(tmp_path: Path) -> None:
    image = bytearray(Path(sys.executable).resolve().read_bytes()[:64])
    image[4] = 1
    (tmp_path / "x").write_bytes(image)
    assert binary_of(tmp_path / "x").bits == 32
    assert binary_of("/bin/sleep").bits == 8 * ctypes.sizeof(ctypes.c_void_p)


@pytest.mark.skipif(not (shutil.which("go") or Path("/usr/local/go/bin/go").exists()), reason="needs go")
def test_go(tmp_path: Path) -> None:
    go = shutil.which("go") or "/usr/local/go/bin/go"
    (tmp_path / "go.mod").write_text("module example.com/acme/shop\n\ngo 1.20\n")
    (tmp_path / "cmd" / "server").mkdir(parents=True)
    (tmp_path / "cmd" / "server" / "main.go").write_text("package main\nfunc main() {}\n")
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOPROXY": "off"}
    for flags in ((), ("-ldflags=-s -w",)):
        command = [go, "build", *flags, "-o", "server", "./cmd/server"]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=250)
        assert binary_of(tmp_path / "server") == Binary(64, "go", "example.com/acme/shop/cmd/server")


def test_not_elf(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("#!/bin/sh\n" * 20)
    assert binary_of(tmp_path / "x") == Binary()


@given(st.data())
def test_broken_files_are_only_unknown(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    image = bytearray(Path("/bin/true").read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(4, 63) | st.integers(len(image) - 2048, len(image) - 1))
        image[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("elf", numbered=True) / "x"
    path.write_bytes(image[: data.draw(st.integers(0, len(image)))])
    assert binary_of(path).bits in (0, 32, 64)


@pytest.mark.parametrize(("program", "tls"), [("java", "JSSE"), ("beam.smp", "Erlang's ssl")])
def test_tls_of_a_language_is_named(spawn: Spawner, tmp_path: Path, program: str, tls: str) -> None:
    """Its TLS is in no library."""
    (tmp_path / program).write_bytes(Path("/bin/sleep").read_bytes())
    (tmp_path / program).chmod(0o755)
    process = spawn(str(tmp_path / program), "60")
    (reason,) = Runtimes().look(Process(process.pid)).unseen
    assert reason.startswith(f"tls: {tls} ")


def test_a_process_that_ended() -> None:
    process = Process(4_000_000)
    found = Runtimes().look(process)
    assert (found.language, found.libraries, found.unseen) == ("unknown", (), ())
    assert (process.exe, process.command, process.environment, process.stat) == ("", (), {}, None)
