"""What an ELF file tells: 32 or 64 bit, Go or Rust, the path of a Go program's main package, where functions are.

In: a descriptor of the file, opened for reading. Out: `Binary`, or offsets in the file. The file may be anything,
hostile too: every size is bounded, and whatever is wrong makes for an answer that says little. Must never read the file
as a whole.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

MAX_SECTIONS = 512  # more than any linker makes without -ffunction-sections left in
MAX_NAMES = 64 << 10
MAX_COMMENT = 4096
MAX_BUILD_INFO = 256 << 10  # the module list of a large program
MAX_SYMBOLS = 128 << 20  # bytes of a symbol table, and of its names

X86_64, AARCH64 = 62, 183  # e_machine

_LOAD = 1  # PT_LOAD
_EXECUTABLE = 1  # PF_X
_SYMBOL_TABLES = (11, 2)  # SHT_DYNSYM, SHT_SYMTAB: the first is there where functions are exported, and is smaller
_FUNCTION = 2  # STT_FUNC
_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
MAX_WRAPPER = 512  # bytes of a function around another one
_AMD64 = X86_64.to_bytes(2, "little")
_CALL, _PUSH, _REX_B = 0xE8, 0x50, 0x41  # of x86-64; the last before registers r8 to r15
_NOP = 0x90
_GO_ELSEWHERE = (_CALL, 0xE9, 0xEB, _NOP)  # call, jmp, short jmp, and nop
_TWO_BYTES, _PREFIX = 0x0F, 0x66
_ENDBR64 = b"\xf3\x0f\x1e\xfa"  # before a function's first instruction, where indirect branches are guarded

_GO_MAGIC = b"\xff Go buildinf:"
_GO_INLINE = 2  # flag: strings follow in place (Go 1.18+), not as pointers
_GO_HEADER = 32
_GO_SENTINEL = 16  # bytes around the module information


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the file that is loaded to an address."""

    offset: int
    address: int
    size: int
    is_code: bool


@dataclass(frozen=True, slots=True)
class Binary:
    """What is known of an executable."""

    bits: int = 0  # 0: not an ELF file
    language: str = ""  # "go", "rust"; empty: neither
    go_path: str = ""  # "github.com/acme/shop/cmd/server"


def read_binary(descriptor: int) -> Binary:
    """Look at the headers."""
    try:
        head = os.pread(descriptor, 64, 0)
        if len(head) < 64 or head[:4] != b"\x7fELF":
            return Binary()
        bits = 32 if head[4] == 1 else 64
        sections = _sections(descriptor, head) if bits == 64 and head[5] == 1 else {}
        if ".go.buildinfo" in sections:
            return Binary(bits, "go", _go_path(os.pread(descriptor, MAX_BUILD_INFO, sections[".go.buildinfo"][0])))
        if ".note.go.buildid" in sections:
            return Binary(bits, "go")
        offset, size = sections.get(".comment", (0, 0))
        rust = b"rustc version" in os.pread(descriptor, min(size, MAX_COMMENT), offset)
        return Binary(bits, "rust" if rust else "")
    except (OSError, struct.error, ValueError, OverflowError, IndexError):
        return Binary()


def read_section(descriptor: int, name: str, limit: int) -> bytes:
    """The first bytes of a section; empty if there is none."""
    try:
        head = os.pread(descriptor, 64, 0)
        if len(head) < 64 or head[:6] != b"\x7fELF\2\1":
            return b""
        offset, size = _sections(descriptor, head).get(name, (0, 0))
        return os.pread(descriptor, min(size, limit), offset)
    except (OSError, struct.error, ValueError, OverflowError, IndexError):
        return b""


def cheaper_callee(descriptor: int, found: Collection[tuple[int, int]]) -> int | None:
    """Offset of the function that all of these call, if a probe is much cheaper there than on themselves.

    `found`: they, as `functions` tells of them.
    The kernel emulates the instruction under a probe if it is a `push`, and else lets the processor make that single
    step in another place, which takes ten times as long. Where two functions are but a few instructions around an inner
    one that does their work, that one begins with a `push`. x86-64 only; looked for in the bytes, where `call` is E8.
    """
    if os.pread(descriptor, 2, 18) != _AMD64:
        return None
    if any(size > MAX_WRAPPER or _begins_with_push(descriptor, at) for at, size in found):
        return None
    called = []
    for at, size in found:
        code = os.pread(descriptor, size, at)
        calls = [i for i in range(len(code) - 4) if code[i] == _CALL]
        called.append({at + i + 5 + int.from_bytes(code[i + 1 : i + 5], "little", signed=True) for i in calls})
    shared = [at for at in set.intersection(*called) if at > 0 and _begins_with_push(descriptor, at)]
    return _past_mark(descriptor, shared[0]) if len(shared) == 1 else None


def is_emulated(descriptor: int, at: int) -> bool:
    """Does the kernel emulate the instruction there, if it has a probe: a `push`, a call, a jump? x86-64 only."""
    code = os.pread(descriptor, 2, at)
    if len(code) < 2:
        return False
    if code[0] == _TWO_BYTES:
        return 0x80 <= code[1] < 0x90
    if code[0] == _PREFIX:
        return code[1] == _NOP
    return _is_push(code) or code[0] in _GO_ELSEWHERE or 0x70 <= code[0] < 0x80


def _begins_with_push(descriptor: int, at: int) -> bool:
    return _is_push(os.pread(descriptor, 2, _past_mark(descriptor, at)))


def _is_push(code: bytes) -> bool:
    return len(code) == 2 and _PUSH <= (code[1] if code[0] == _REX_B else code[0]) < _PUSH + 8


def _past_mark(descriptor: int, at: int) -> int:
    return at + len(_ENDBR64) * (os.pread(descriptor, len(_ENDBR64), at) == _ENDBR64)


def functions(descriptor: int, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """(offset in the file of the first instruction, bytes from there on) of each of these functions that it defines."""
    try:
        head = os.pread(descriptor, 64, 0)
        if len(head) < 64 or head[:6] != b"\x7fELF\2\1":
            return {}
        headers = _section_headers(descriptor, head)
        wanted = {name: name.encode() + b"\0" for name in names}
        addresses: dict[str, tuple[int, int]] = {}
        for kind in _SYMBOL_TABLES:
            for _, found, _, _, offset, size, link, *_ in headers:
                if found != kind or link >= len(headers) or size > MAX_SYMBOLS or headers[link][5] > MAX_SYMBOLS:
                    continue
                texts = os.pread(descriptor, headers[link][5], headers[link][4])
                places = {
                    name: set(_places(texts, text))
                    for name, text in wanted.items()
                    if name not in addresses and text in texts
                }
                if places:
                    addresses |= _addresses(os.pread(descriptor, size, offset), places)
            if len(addresses) == len(wanted):
                break
        return _in_file(descriptor, head, addresses) if addresses else {}
    except (OSError, struct.error, ValueError, OverflowError, IndexError):
        return {}


def _places(texts: bytes, text: bytes) -> Iterator[int]:
    """Where the text stands; it may be the end of a longer one, which then nobody means."""
    at = -1
    while (at := texts.find(text, at + 1)) >= 0:
        yield at


def _addresses(table: bytes, places: dict[str, set[int]]) -> dict[str, tuple[int, int]]:
    symbols = np.frombuffer(table, _SYMBOL, len(table) // _SYMBOL.itemsize)
    defined = symbols[(symbols["info"] & 15 == _FUNCTION) & (symbols["section"] != 0)]
    found = {}
    for name, at in places.items():
        rows = defined[np.isin(defined["name"], list(at))]
        if len(rows):
            found[name] = int(rows["value"][0]), int(rows["size"][0])
    return found


def segments_of(descriptor: int, head: bytes) -> list[Segment]:
    """What is loaded of the file."""
    (table,) = struct.unpack_from("<Q", head, 32)
    entry, count = struct.unpack_from("<HH", head, 54)
    if entry != 56:
        return []
    headers = struct.iter_unpack("<IIQQQQQQ", os.pread(descriptor, entry * min(count, MAX_SECTIONS), table))
    return [
        Segment(offset, start, size, bool(flags & _EXECUTABLE))
        for kind, flags, offset, start, _, size, _, _ in headers
        if kind == _LOAD
    ]


def in_file(segments: Iterable[Segment], address: int) -> int | None:
    """Offset of what is loaded to the address."""
    for segment in segments:
        if segment.address <= address < segment.address + segment.size:
            return address - segment.address + segment.offset
    return None


def _in_file(descriptor: int, head: bytes, addresses: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Addresses as offsets, past an instruction that a probe would only make slower."""
    segments = segments_of(descriptor, head)
    found = {}
    for name, (address, length) in addresses.items():
        start = in_file(segments, address)
        if start is not None:
            at = _past_mark(descriptor, start)
            found[name] = at, length - (at - start)
    return found


def _section_headers(descriptor: int, head: bytes) -> list[tuple[int, ...]]:
    """(name, type, flags, address, offset, size, link, information, alignment, size of an entry) of each section."""
    (table,) = struct.unpack_from("<Q", head, 40)
    entry, count = struct.unpack_from("<HH", head, 58)
    if entry != 64 or count > MAX_SECTIONS:
        return []
    return list(struct.iter_unpack("<IIQQQQIIQQ", os.pread(descriptor, entry * count, table)))


def _sections(descriptor: int, head: bytes) -> dict[str, tuple[int, int]]:
    """Name -> (offset, size) in the file."""
    headers = _section_headers(descriptor, head)
    (names_index,) = struct.unpack_from("<H", head, 62)
    if names_index >= len(headers):
        return {}
    names = os.pread(descriptor, min(headers[names_index][5], MAX_NAMES), headers[names_index][4])
    found: dict[str, tuple[int, int]] = {}
    for name, _, _, _, offset, size, *_ in headers:
        text = names[name : names.find(b"\0", name)]
        found[text.decode(errors="replace")] = (offset, size)
    return found


def go_build_info(descriptor: int, segments: Iterable[Segment]) -> tuple[str, dict[str, str]]:
    """Go's version ("go1.26.8"), and the version of each module in the program; empty where that is not told."""
    head = os.pread(descriptor, 64, 0)
    offset, size = _sections(descriptor, head).get(".go.buildinfo", (0, 0))
    section = os.pread(descriptor, min(size, MAX_BUILD_INFO), offset)
    version, information = _go_strings(section)
    if not version and section.startswith(_GO_MAGIC):  # before Go 1.18: pointers to strings
        version, information = (_go_pointed(descriptor, segments, section, at) for at in (16, 24))
    modules: dict[str, str] = {}
    path = ""
    for line in _go_lines(information):
        kind, *values = line.decode(errors="replace").split("\t")
        if kind in ("mod", "dep") and len(values) > 1:
            path = values[0]
            modules[path] = values[1]
        elif kind == "=>" and len(values) > 1 and path:
            # what is called by the one path is the code of another module
            modules[path] = values[1] if values[0] == path else f"{values[0]} {values[1]}"
    return version.decode(errors="replace"), modules


def _go_path(section: bytes) -> str:
    """`path` of the build information: see debug/buildinfo of Go."""
    for line in _go_lines(_go_strings(section)[1]):
        key, _, value = line.partition(b"\t")
        if key == b"path":
            return value.decode(errors="replace")
    return ""


def _go_strings(section: bytes) -> tuple[bytes, bytes]:
    """Go's version, and what is told of modules; empty if they do not follow in place."""
    if not section.startswith(_GO_MAGIC) or not section[15] & _GO_INLINE:
        return b"", b""
    version, at = _go_string(section, _GO_HEADER)
    information, _ = _go_string(section, at)
    return version, information


def _go_lines(information: bytes) -> list[bytes]:
    return information[_GO_SENTINEL:-_GO_SENTINEL].split(b"\n")


def _go_pointed(descriptor: int, segments: Iterable[Segment], section: bytes, at: int) -> bytes:
    """The string whose header's address stands there."""
    segments = list(segments)
    place = in_file(segments, int.from_bytes(section[at : at + 8], "little"))
    if place is None:
        return b""
    address, size = struct.unpack("<QQ", os.pread(descriptor, 16, place))
    place = in_file(segments, address)
    return b"" if place is None else os.pread(descriptor, min(size, MAX_BUILD_INFO), place)


def _go_string(data: bytes, at: int) -> tuple[bytes, int]:
    """A varint length and that many bytes; the position behind them."""
    size = shift = 0
    while shift < 35:
        if at >= len(data):
            return b"", at
        byte = data[at]
        at += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return data[at : at + size], at + size
