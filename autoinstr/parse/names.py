"""What programs themselves call the requests that they serve, as routes.

In: a name as the kernel side has read it. Out: a route. Every router writes its templates in its own way: what is not
part of the path goes.
"""

from __future__ import annotations

from urllib.parse import quote

from autoinstr.capture.abi import NameKind
from autoinstr.model import Name

_PRINTABLE = "".join(map(chr, range(33, 127)))


def route_of(name: Name) -> str:
    """The template of a route's path; empty if the name is none."""
    text = name.text
    if name.kind == NameKind.PATTERN:  # "[METHOD ][HOST]/[PATH]"
        at = text.find(b"/")
        text = text[at:] if at >= 0 else b""
    elif name.kind == NameKind.CHI:  # of each router within another one, end to end
        while b"/*/" in text:
            text = text.replace(b"/*/", b"/")
        if text != b"/":
            text = text.removesuffix(b"//").removesuffix(b"/")
    elif name.kind != NameKind.ROUTE:
        return ""
    return quote(text, safe=_PRINTABLE)
