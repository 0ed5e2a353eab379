"""Functions of real Go programs, held against what Go's own tools say of them."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from autoinstr.elf import X86_64, Segment, in_file, is_emulated, segments_of
from autoinstr.libraries import find
from autoinstr.libraries.go_code import GoCode
from autoinstr.libraries.go_http import GO_HTTP
from autoinstr.libraries.go_program import go_program, go_version
from autoinstr.libraries.go_propagate import GO_PROPAGATE
from autoinstr.libraries.go_propagate_http2 import GO_PROPAGATE_HTTP2
from autoinstr.libraries.go_table import GoFunction, go_functions
from autoinstr.libraries.go_tls import GO_TLS, READ, WRITE, WRITES
from autoinstr.libraries.goroutines import FUNCTIONS, LOT, NEW_GOROUTINE, goroutine_places

Build = Callable[[str], Path]
LINKED = {
    "static": {},
    "pie": {"flags": ("-buildmode=pie",)},
    "by-gcc": {"flags": ("-buildmode=pie", "-ldflags=-linkmode=external")},
    "unoptimised": {"flags": ("-gcflags=all=-N -l",)},
    "arm64": {"GOARCH": "arm64"},
}
SOURCE = """package main

import "net/http"

func main() {
	http.Get("")
	panic(http.ListenAndServeTLS("", "", "", nil))
}
"""
CALL = b"\xe8"
WRITES_BLOCK = "net/http.(*http2ClientConn).writeHeaders"  # of the Go that tests are built with
NAMES = [function.symbol for function in GO_TLS.functions]

needs_go = pytest.mark.skipif(not shutil.which("go"), reason="needs go")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`built("pie")` is a program linked in that way."""

    @cache
    def build(linked: str) -> Path:
        options = dict(LINKED[linked])
        flags = options.pop("flags", ())
        if "external" in str(flags) and not shutil.which("gcc"):
            pytest.skip("needs gcc")
        folder = tmp_path_factory.mktemp(linked)
        (folder / "main.go").write_text(SOURCE)
        command = ["go", "build", *flags, "-o", "program", "main.go"]
        subprocess.run(command, cwd=folder, check=True, timeout=240, env={**os.environ, **options})
        return folder / "program"

    return build


def functions_of(path: Path, names: list[str]) -> dict[str, GoFunction]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return go_functions(descriptor, segments_of(descriptor, os.pread(descriptor, 64, 0)), names)
    finally:
        os.close(descriptor)


@needs_go
@pytest.mark.parametrize("linked", LINKED)
def test_addresses_are_those_of_the_symbols(built: Build, linked: str) -> None:
    path = built(linked)
    listed = subprocess.run(["go", "tool", "nm", path], check=True, capture_output=True, text=True).stdout
    symbols = re.findall(r"^ *([0-9a-f]+) [Tt] ((?:crypto|net|encoding)/[\w/]+\.[\w.()*]+)$", listed, re.MULTILINE)
    addresses = {name: int(address, 16) for address, name in symbols if not name.endswith(".abi0")}
    some = [*NAMES, *random.Random(linked).sample(sorted(addresses), 200)]
    found = functions_of(path, some)
    assert {name: function.begin for name, function in found.items()} == {name: addresses[name] for name in some}


@needs_go
@pytest.mark.parametrize("linked", LINKED)
def test_returns_are_those_of_the_disassembler(built: Build, linked: str) -> None:
    path = built(linked)
    text = subprocess.run(
        [
            "go",
            "tool",
            "objdump",
            "-s",
            r"^crypto/tls\.\(\*Conn\)\.(Read|Write|clientHandshake|serverHandshake)$",
            path,
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    returns = {int(address, 16) for address in re.findall(r"^ +\S+\s+0x([0-9a-f]+)\s+[0-9a-f]+\s+RET\s*$", text, re.M)}
    found = {at for name in NAMES for at in code_of(path, name).returns()}
    assert len(returns) > len(NAMES)
    assert found == returns


@needs_go
@pytest.mark.parametrize("linked", LINKED)
def test_entry_is_the_branch_of_the_check_of_the_stack(built: Build, linked: str) -> None:
    path = built(linked)
    for name in NAMES:
        (function,) = functions_of(path, [name]).values()
        entry = code_of(path, name).entry()
        text = subprocess.run(
            ["go", "tool", "objdump", "-s", f"^{re.escape(name)}$", path], check=True, capture_output=True, text=True
        ).stdout
        lines = re.findall(r"0x([0-9a-f]+)\s+[0-9a-f]+\s+(\S+)", text)
        words = {int(at, 16): word for at, word in lines}
        assert entry and [word for at, word in words.items() if function.begin <= at <= entry][-1] in ("JBE", "BLS")
        assert not {"CALL", "RET"} & {word for at, word in words.items() if at < entry}


@needs_go
@pytest.mark.parametrize("linked", ["static", "pie", "by-gcc"])
def test_what_is_read_and_written_needs_no_single_step(built: Build, linked: str) -> None:
    path = built(linked)
    (found,) = find(str(path), [GO_TLS])
    often = [place.offset for place in found.places if place.program not in GO_TLS.rare]
    assert {place.program for place in found.places} == {"go_read_copy", "go_write", "go_written", *GO_TLS.rare}
    with path.open("rb") as file:
        assert all(is_emulated(file.fileno(), at) for at in often)


@needs_go
@pytest.mark.parametrize("linked", LINKED)
def test_fields_are_added_at_calls(built: Build, linked: str) -> None:
    """Where the kernel emulates them; of HTTP/2 only where what they are given lies on the stack."""
    path = built(linked)
    found = {one.library: one for one in find(str(path), [GO_PROPAGATE, GO_PROPAGATE_HTTP2])}
    assert found.keys() == {GO_PROPAGATE} | ({GO_PROPAGATE_HTTP2} if linked != "arm64" else set())
    for one in found.values():
        (place,) = one.places
        assert {"tcp_close", "tls_close"} < one.layout.keys()
        with path.open("rb") as file:
            assert linked == "arm64" or os.pread(file.fileno(), 1, place.offset) == CALL
    if linked != "arm64":
        layout = found[GO_PROPAGATE_HTTP2].layout
        code = code_of(path, WRITES_BLOCK)
        assert {layout["h2_framer"], layout["h2_writer"]} < code.displacements()
        assert layout["h2_self"] == code.home_at(layout["h2_call"])


@needs_go
def test_returns_of_write_are_probed_where_nothing_was_written(built: Build) -> None:
    """As many as there are before the call that writes, and one behind a panic."""
    code = code_of(built("static"), WRITE)
    behind = code.after_calls(functions_of(built("static"), [WRITES])[WRITES].begin, (0, 1))
    without = code.returns_without(behind)
    assert len(behind) == 2
    assert set(without) < set(code.returns())
    assert len(without) > 3


# push rbp; mov rbp, rsp; call 0x100f; test rbx, rbx; je +2; xor eax, eax; pop rbp; ret
AROUND_A_CALL = "55 4889e5 e806000000 4885db 7402 31c0 5d c3"


@pytest.mark.parametrize(
    ("code", "at"),
    [
        (AROUND_A_CALL, 12),
        # ... and somebody jumps to what is behind the call: jmp -11 at the end
        (AROUND_A_CALL + "ebf8", 9),
        # mov rbx, rax in the place of the test: a result is gone
        (AROUND_A_CALL.replace("4885db", "4889c3"), 9),
    ],
)
def test_place_behind_a_call(code: str, at: int) -> None:
    assert GoCode(bytes.fromhex(code), 0x1000, X86_64).after_calls(0x100F, (0, 1)) == [0x1000 + at]


# push rbp; sub rsp, 0x10; call 0x1020; mov [rsp + 8], rax; test rbx, rbx; je +7; xor eax, eax; add rsp, 0x10; pop rbp;
# ret; cmp cl, 0; je +0; mov rax, [rsp + 8]; xor ebx, ebx; add rsp, 0x10; pop rbp; ret
MADE = "55 4883ec10 e816000000 4889442408 4885db 7408 31c0 4883c410 5d c3 80f900 7400 488b442408 31db 4883c410 5d c3"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (MADE, (0x1000 + 31, 8)),
        # the second return has an error, too: mov rbx, rcx
        (MADE.replace("31db", "4889cb"), None),
        # what it returns is changed behind the branch: mov [rsp + 8], rcx
        (MADE.replace("7400 ", "7400 48894c2408 "), None),
    ],
)
def test_place_before_a_success(code: str, found: tuple[int, int] | None) -> None:
    assert GoCode(bytes.fromhex(code), 0x1000, X86_64).before_success() == found


def test_frames() -> None:
    # sub rsp, 0x18; mov [rsp + 0x10], rbp; lea rbp, [rsp + 0x10]; call
    assert GoCode(bytes.fromhex("4883ec18 48896c2410 488d6c2410 e800000000"), 0x1000, X86_64).has_frame()
    assert GoCode(bytes.fromhex(AROUND_A_CALL), 0x1000, X86_64).has_frame()
    # none; and lea rbp, [rsp + 8], which is not where rbp was saved
    assert not GoCode(bytes.fromhex("4883ec18 e800000000"), 0x1000, X86_64).has_frame()
    assert not GoCode(bytes.fromhex("4883ec18 488d6c2408 e800000000"), 0x1000, X86_64).has_frame()


@needs_go
@pytest.mark.parametrize("linked", LINKED)
def test_read_keeps_its_arguments(built: Build, linked: str) -> None:
    assert code_of(built(linked), READ).keeps(0, 1)


@needs_go
@pytest.mark.parametrize(("machine", "linked"), [("amd64", "unoptimised"), ("arm64", "arm64")])
def test_entry_of_read_only_where_its_buffer_may_be_on_a_stack(
    built: Build, tmp_path: Path, machine: str, linked: str
) -> None:
    body = 'c, _ := tls.Dial("", "", nil); var b [9]byte; c.Read(b[:])'
    (tmp_path / "main.go").write_text(f'package main\n\nimport "crypto/tls"\n\nfunc main() {{ {body} }}\n')
    command = ["go", "build", *LINKED[linked].get("flags", ()), "-o", "program", "main.go"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=240, env={**os.environ, "GOARCH": machine})
    for path, called in ((tmp_path / "program", True), (built(linked), False)):
        (found,) = find(str(path), [GO_TLS])
        assert ("go_read" in {place.program for place in found.places}) == called


@needs_go
def test_a_program_without_tls_has_none(tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text("package main\n\nfunc main() { println(1) }\n")
    subprocess.run(["go", "build", "-o", "program", "main.go"], cwd=tmp_path, check=True, timeout=240)
    assert find(str(tmp_path / "program"), [GO_TLS]) == []


def code_of(path: Path, name: str) -> GoCode:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        head = os.pread(descriptor, 64, 0)
        segments = segments_of(descriptor, head)
        function = go_functions(descriptor, segments, [name])[name]
        offset = in_file(segments, function.begin)
        assert offset is not None
        code = os.pread(descriptor, function.end - function.begin, offset)
        return GoCode(code, function.begin, struct.unpack_from("<H", head, 18)[0])
    finally:
        os.close(descriptor)


@needs_go
@pytest.mark.parametrize("linked", LINKED)
def test_where_ids_of_goroutines_are_given_out(built: Build, linked: str) -> None:
    path = built(linked)
    listed = subprocess.run(["go", "tool", "nm", path], check=True, capture_output=True, text=True).stdout
    counter = re.search(r"^ *([0-9a-f]+) \w runtime\.sched$", listed, re.MULTILINE)  # its first field
    assert counter
    told = None if linked == "unoptimised" else int(counter[1], 16)  # that calls a function to add
    assert code_of(path, NEW_GOROUTINE).counted_in(LOT) == told


@needs_go
@pytest.mark.parametrize(("minor", "said"), [(20, False), (99, True)])
def test_a_version_that_is_known_is_not_said_to_be_unknown(
    built: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture, minor: int, said: bool
) -> None:
    """Also if what is asked of it came with a later one, as the goroutine that has begun another one did with 1.21."""
    image = built("static").read_bytes()
    own = re.search(rb"go1\.(\d\d)\.\d+", image)
    assert own
    older = tmp_path / "older"
    older.write_bytes(image.replace(own[0], own[0].replace(own[1], b"%d" % minor)))
    with older.open("rb") as file:
        places = goroutine_places(file.fileno(), FUNCTIONS)
    names = {place.program for place in places}
    assert "go_look_up" not in names
    assert ("go_round_trip" in names) != said
    assert [record.getMessage()[:7] for record in caplog.records] == [f"Go 1.{minor}"] * said


def test_arguments_on_the_stack_are_told_apart() -> None:
    """A function of Go 1.16: mov rcx, fs:[-8]; cmp rsp, [rcx + 16]; jbe; sub rsp, 24; ret."""
    code = bytes.fromhex("64488b0c25f8ffffff483b611076054883ec18c3")
    assert GoCode(code, 0x1000, X86_64).entry() is None


@pytest.mark.parametrize(
    ("code", "keeps"),
    [
        # push rbp; mov rbp, rsp; sub rsp, 0x10; mov [rsp + 0x20], rax; mov [rsp + 0x28], rbx; call; ret
        ("55 4889e5 4883ec10 4889442420 48895c2428 e800000000 c3", True),
        # only the first
        ("55 4889e5 4883ec10 4889442420 e800000000 c3", False),
        # elsewhere
        ("55 4889e5 4883ec10 4889442408 48895c2410 e800000000 c3", False),
        # and later something else: mov [rsp + 0x28], rax
        ("55 4889e5 4883ec10 4889442420 48895c2428 e800000000 4889442428 c3", False),
    ],
)
def test_arguments_that_are_kept(code: str, keeps: bool) -> None:
    assert GoCode(bytes.fromhex(code), 0x1000, X86_64).keeps(0, 1) == keeps


@needs_go
def test_damaged_files_are_no_trouble(built: Build, tmp_path: Path) -> None:
    """Whatever is in a file: places, none, or a reason."""
    whole, damaged = built("static").read_bytes(), tmp_path / "damaged"
    table = whole.index(b"\xf1\xff\xff\xff\0\0\1\x08")
    dice = random.Random(1)
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 4, 50))):
            at = table + dice.choice((dice.randrange(72), dice.randrange(72), dice.randrange(2_000_000)))
            data[at] = dice.randrange(256)
        damaged.write_bytes(data[: dice.choice((len(data), dice.randrange(table, len(data))))])
        try:
            find(str(damaged), [GO_TLS])
        except (OSError, ValueError):
            continue


@needs_go
def test_build_information(built: Build) -> None:
    with built("static").open("rb") as file:
        program = go_program(file.fileno())
    assert program
    told = subprocess.run(["go", "version"], capture_output=True, text=True, check=True).stdout.split()[2]
    assert program.version == tuple(map(int, told.removeprefix("go").split(".")))
    assert program.modules == {}, "a program of a single file is none of a module"


@needs_go
@pytest.mark.parametrize("linked", LINKED)
def test_where_routes_are_found(built: Build, linked: str) -> None:
    """Behind each of the calls that Go's own disassembler shows, before anything else is called or returned from."""
    path = built(linked)
    with path.open("rb") as file:
        places = GO_HTTP.places(file.fileno(), GO_HTTP.functions)
        program = go_program(file.fileno())
    assert program
    assert {place.program for place in places} == {"go_route_pattern"}
    command = ["go", "tool", "objdump", "-s", r"^net/http.\(\*ServeMux\).ServeHTTP$", path]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    lines = [line.split() for line in shown if line.startswith("  ")]  # place in the source, address, bytes, words
    addresses = [int(line[1], 16) for line in lines]
    words = [" ".join(line[3:]) for line in lines]
    calls = [at for at, text in enumerate(words) if "findHandler(SB)" in text]
    found = sorted(in_address(program.segments, place.offset) for place in places)
    assert len(found) == len(calls)
    for address, call in zip(found, calls, strict=True):
        at = addresses.index(address)
        assert call < at < call + 12
        assert not any(text.startswith(("CALL", "RET")) for text in words[call + 1 : at])


def in_address(segments: list[Segment], offset: int) -> int:
    return next(one.address + offset - one.offset for one in segments if one.offset <= offset < one.offset + one.size)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go1.26.8", (1, 26, 8)),
        ("go1.27rc1 X:nocoverageredesign", (1, 27)),
        ("devel go1.28-abc Mon", ()),
        ("go1.17", (1, 17)),
        ("", ()),
    ],
)
def test_go_version(text: str, version: tuple[int, ...]) -> None:
    assert go_version(text) == version


ANALYSE = """
import sys, time
from pathlib import Path
from autoinstr.libraries import LIBRARIES, find
began = time.process_time()
find(sys.argv[1], LIBRARIES)
once = time.process_time() - began
find(sys.argv[1], LIBRARIES)
again = time.process_time() - began - once
(most,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(once, again, most)
"""


@needs_go
def test_the_largest_program_at_hand() -> None:
    """Of Go's own tools, and of what other tests have built: some of that has a hundred megabytes."""
    root = subprocess.run(["go", "env", "GOROOT"], check=True, capture_output=True, text=True).stdout.strip()
    folders = [Path(root), Path(__file__).parents[3] / ".cache" / "backends"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and os.access(path, os.X_OK)]
    largest = max(
        (path for path in files if path.open("rb").read(4) == b"\x7fELF"), key=lambda path: path.stat().st_size
    )
    command = [sys.executable, "-c", ANALYSE, largest]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    once, again, memory = map(float, done.stdout.split())
    assert once < 3
    assert again < 0.01
    assert memory < 150 << 10  # kilobytes
