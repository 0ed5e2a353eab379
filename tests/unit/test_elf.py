"""Offsets of functions, in real files as the compiler makes them, held against what nm says."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoinstr.elf import cheaper_callee, functions

SOURCE = """
int first(int x) { return x + 1; }
int not_first(int x) { return x + 2; }
extern int elsewhere(int);
int calls(int x) { return elsewhere(x) + first(x); }
int data = 1;
"""
needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")


def offsets(path: Path, *names: str) -> dict[str, int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return {name: offset for name, (offset, _) in functions(descriptor, names).items()}
    finally:
        os.close(descriptor)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elf")
    (folder / "a.c").write_text(SOURCE)
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-fcf-protection=full", "-o", folder / "a.so", folder / "a.c"], check=True
    )
    return folder / "a.so"


def bytes_of(library: Path, name: str) -> bytes:
    """A function's code as objdump shows it."""
    shown = subprocess.run(
        ["objdump", "-d", f"--disassemble={name}", library], capture_output=True, text=True, check=True
    )
    lines = [line.split("\t") for line in shown.stdout.splitlines() if line.startswith(" ") and "\t" in line]
    return bytes.fromhex("".join(fields[1] for fields in lines).replace(" ", ""))


@needs_gcc
def test_code_of_functions(library: Path) -> None:
    names = ("first", "not_first", "calls")
    found = offsets(library, *names, "elsewhere", "data", "none")
    assert set(found) == set(names), "only what the file defines, and only functions"
    for name in names:
        code = bytes_of(library, name)
        if code.startswith(b"\xf3\x0f\x1e\xfa"):
            code = code[4:]  # the mark of an indirect branch's target is passed over
        assert library.read_bytes()[found[name] :].startswith(code)


@needs_gcc
def test_exported_and_local(tmp_path: Path) -> None:
    """What is exported stands in both tables of symbols, what is local in one."""
    code = "static int local(int x) { return x + 1; } int shared(int x) { return x + 2; } int (*uses)(int) = local;"
    (tmp_path / "a.c").write_text(code)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "a.so", tmp_path / "a.c"], check=True)
    names = ("shared", "local", "neither")
    assert set(offsets(tmp_path / "a.so", *names)) == {"shared", "local"}
    subprocess.run(["strip", tmp_path / "a.so"], check=True)
    assert set(offsets(tmp_path / "a.so", *names)) == {"shared"}


@needs_gcc
def test_stripped(library: Path, tmp_path: Path) -> None:
    """What a library exports stays."""
    subprocess.run(["strip", "-o", tmp_path / "a.so", library], check=True)
    assert set(offsets(tmp_path / "a.so", "first")) == {"first"}


@needs_gcc
def test_executable_that_exports_nothing(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(
        "static int inside(int x) { return x; } int main(int c, char **v) { return inside(c); }"
    )
    subprocess.run(["gcc", "-O0", "-o", tmp_path / "main", tmp_path / "main.c"], check=True)
    assert set(offsets(tmp_path / "main", "inside", "main")) == {"inside", "main"}


@needs_gcc
@given(st.integers(0, 20_000), st.binary(max_size=64))
def test_anything_may_be_in_the_file(library: Path, at: int, noise: bytes) -> None:
    data = bytearray(library.read_bytes())
    data[at : at + len(noise)] = noise
    path = library.with_name("broken")
    path.write_bytes(data)
    assert isinstance(offsets(path, "first", "calls"), dict)


WRAPPERS = """
.globl one, other, pushes, lonely
inner: push %rbx
    pop %rbx
    ret
helper: sub $8, %rsp
    add $8, %rsp
    ret
one: sub $24, %rsp
    call inner
    call helper
    add $24, %rsp
    ret
other: sub $8, %rsp
    call inner
    add $8, %rsp
    ret
lonely: sub $8, %rsp
    call helper
    add $8, %rsp
    ret
pushes: push %rbp
    call inner
    pop %rbp
    ret
"""


@needs_gcc
@pytest.mark.skipif(platform.machine() != "x86_64", reason="of x86-64")
def test_the_function_that_two_have_in_common(tmp_path: Path) -> None:
    source = re.sub(r"(\w+):((?:.*\n)+?    ret\n)", r".type \1, @function\n\1:\2.size \1, . - \1\n", WRAPPERS)
    (tmp_path / "a.s").write_text(source)
    subprocess.run(["gcc", "-shared", "-o", tmp_path / "a.so", tmp_path / "a.s"], check=True)
    descriptor = os.open(tmp_path / "a.so", os.O_RDONLY)
    found = functions(descriptor, ["inner", "one", "other", "lonely", "pushes"])
    one, other, lonely, pushes = (found[name] for name in ("one", "other", "lonely", "pushes"))
    assert cheaper_callee(descriptor, [one, other]) == offsets(tmp_path / "a.so", "inner")["inner"]
    assert cheaper_callee(descriptor, [one, lonely]) is None, "what they share is as dear as they are"
    assert cheaper_callee(descriptor, [one, pushes]) is None, "one of the two is cheap itself"
    os.close(descriptor)


def test_what_is_no_elf_file(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("#!/bin/sh\n")
    assert offsets(tmp_path / "text", "main") == {}
