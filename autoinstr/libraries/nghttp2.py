"""nghttp2, shared or built in (Node): the tables of header fields that it keeps of a connection.

Of a connection older than the agent nobody else knows what they hold. They are read when the library is given what came
over it first, so its probe is of no use once that was seen, and does not stay.

Where the tables lie in a session is what two of its functions say, which return their sizes; the rest is the same in
every version so far, and is held against those sizes by the kernel side, which tells nothing if they differ.
"""

from __future__ import annotations

import os
import re

from autoinstr import elf
from autoinstr.libraries import instructions
from autoinstr.libraries.base import Function, Library
from autoinstr.libraries.unknown import not_known

SIZE = 0x28  # where a table's size lies in it
_TABLES = {
    "inflater": "nghttp2_session_get_hd_inflate_dynamic_table_size",
    "deflater": "nghttp2_session_get_hd_deflate_dynamic_table_size",
}
MAX_CODE = 64  # bytes of such a function
_MARKS = ("endbr64", "bti", "hint", "paciasp", "nop")  # that a function may begin with
# the table's address is made of the session's, and another function goes on; or its size is returned at once
_ADDED = re.compile(r"add (?:rdi|x0, x0), #?(0x[0-9a-f]+|\d+)")
_READ = re.compile(r"(?:mov rax, qword ptr|ldr x0,) \[(?:rdi|x0)(?: \+ |, #)(0x[0-9a-f]+|\d+)\]")


def tables(descriptor: int) -> dict[str, int]:
    """Bytes from the beginning of a session to its tables; empty if that is not to be seen."""
    (machine,) = os.pread(descriptor, 1, 18)
    if machine not in {elf.X86_64, elf.AARCH64}:
        return {}
    places = elf.functions(descriptor, _TABLES.values())
    found = {}
    for name, symbol in _TABLES.items():
        at, size = places.get(symbol, (0, 0))
        for _, operation, text in instructions.read(os.pread(descriptor, min(size, MAX_CODE), at), 0, machine):
            if operation in _MARKS:
                continue
            line = f"{operation} {text}"
            if added := _ADDED.fullmatch(line):
                found[name] = int(added[1], 0)
            elif read := _READ.fullmatch(line):
                found[name] = int(read[1], 0) - SIZE
            break
    if len(found) == len(_TABLES):
        return found
    not_known("nghttp2 of a kind that autoinstr does not know: header fields of older connections stay unknown")
    return {}


NGHTTP2 = Library(
    name="nghttp2",
    functions=(
        Function("nghttp2_session_mem_recv", "nghttp2_received"),
        Function("nghttp2_session_mem_recv2", "nghttp2_received"),
    ),
    flag=0,
    group="tables",
    layout=tables,
    hits=1,
    per="read, in the agent's first ten minutes",
)
