"""What an executable's ELF headers tell: 32 or 64 bit, Go or Rust, the path of a Go program's main package.

In: a descriptor of the file, opened for reading. Out: `Binary`. The file may be anything, hostile too: every size is
bounded, and whatever is wrong makes it a `Binary` that says little. Must never read the file as a whole.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

MAX_SECTIONS = 512  # more than any linker makes without -ffunction-sections left in
MAX_NAMES = 64 << 10
MAX_COMMENT = 4096
MAX_BUILD_INFO = 256 << 10  # the module list of a large program

_GO_MAGIC = b"\xff Go buildinf:"
_GO_INLINE = 2  # flag: strings follow in place (Go 1.18+), not as pointers
_GO_HEADER = 32
_GO_SENTINEL = 16  # bytes around the module information


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


def _sections(descriptor: int, head: bytes) -> dict[str, tuple[int, int]]:
    """Name -> (offset, size) in the file."""
    (table,) = struct.unpack_from("<Q", head, 40)
    entry, count, names_index = struct.unpack_from("<HHH", head, 58)
    if entry != 64 or not names_index < count <= MAX_SECTIONS:
        return {}
    headers = list(struct.iter_unpack("<IIQQQQIIQQ", os.pread(descriptor, entry * count, table)))
    names = os.pread(descriptor, min(headers[names_index][5], MAX_NAMES), headers[names_index][4])
    found: dict[str, tuple[int, int]] = {}
    for name, _, _, _, offset, size, *_ in headers:
        text = names[name : names.find(b"\0", name)]
        found[text.decode(errors="replace")] = (offset, size)
    return found


def _go_path(section: bytes) -> str:
    """`path` of the build information: see debug/buildinfo of Go."""
    if not section.startswith(_GO_MAGIC) or not section[15] & _GO_INLINE:
        return ""
    _, at = _go_string(section, _GO_HEADER)
    information, _ = _go_string(section, at)
    for line in information[_GO_SENTINEL:-_GO_SENTINEL].split(b"\n"):
        key, _, value = line.partition(b"\t")
        if key == b"path":
            return value.decode(errors="replace")
    return ""


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
