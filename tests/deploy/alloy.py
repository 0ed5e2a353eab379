"""Alloy's configuration language, as far as the demo uses it, and the same pipeline as a Collector's configuration.

In: text. Out: blocks. ValueError: it is not well-formed. Alloy itself can't be had where tests run; its components
`otelcol.*` are the Collector's, with the same settings, so a Collector can be asked what they do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)|(?P<string>"[^"\n]*"|`[^`]*`)|(?P<word>[A-Za-z_][\w.]*)|(?P<number>\d+)|(?P<mark>[{}\[\]=,])"""
)
SIGNALS = ("traces", "metrics", "logs")


@dataclass
class Block:
    """`name "label" { name = value ... block ... }`. References to other components are strings, too."""

    name: str
    label: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)

    def only(self, name: str) -> Block:
        (found,) = (one for one in self.blocks if one.name == name)
        return found


def parse(text: str) -> list[Block]:
    tokens = _tokens(text)
    root = Block("")
    _body(root, tokens, "")
    return root.blocks


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        if not (found := TOKEN.match(text, at)):
            raise ValueError(f"what is this? {text[at : at + 20]!r}")
        at = found.end()
        if found.lastgroup != "skip":
            yield str(found.lastgroup), found[0]
    yield "mark", ""


def _body(block: Block, tokens: Iterator[tuple[str, str]], end: str) -> None:
    for what, text in tokens:
        if what == "mark" and text == end:
            return
        if what != "word":
            raise ValueError(f"{text!r} where a name should be")
        after, mark = next(tokens)
        if mark == "=":
            block.values[text] = _value(tokens)
            continue
        inner = Block(text)
        if after == "string":
            inner.label, (_, mark) = mark[1:-1], next(tokens)
        if mark != "{":
            raise ValueError(f"{mark!r} after {text}, and no brace")
        _body(inner, tokens, "}")
        block.blocks.append(inner)
    raise ValueError(f"it ends within {block.name}")


def _value(tokens: Iterator[tuple[str, str]]) -> Any:
    kind, text = next(tokens)
    if kind == "string":
        return text[1:-1]
    if kind == "number":
        return int(text)
    if kind == "word":
        return {"true": True, "false": False}.get(text, text)
    found = []
    if text == "[":
        while (one := _value_or_end(tokens)) is not None:
            found.append(one)
        return found
    raise ValueError(f"{text!r} where a value should be")


def _value_or_end(tokens: Iterator[tuple[str, str]]) -> Any:
    """Of a list; None at its end."""
    kind, text = next(tokens)
    if text == ",":
        kind, text = next(tokens)
    if text == "]":
        return None
    return text[1:-1] if kind == "string" else text


def as_collector(blocks: list[Block], exporters: dict[str, Any]) -> dict[str, Any]:
    """The same receivers and processors in the same order.

    What Alloy sends by an exporter called `tempo` goes to the one of `exporters` that is called .../tempo.
    """
    known = {f"{one.name}.{one.label}": one for one in blocks}
    (receiver,) = (one for one in blocks if ".receiver." in one.name)
    processors = {f"{kind(one)}/{one.label}": settings(one) for one in blocks if ".processor." in one.name}
    pipelines = {}
    for signal in SIGNALS:
        passed, at = [], receiver
        while ".exporter." not in at.name:
            (target,) = at.only("output").values[signal]
            at = known[target.removesuffix(".input")]
            passed.append(f"{kind(at)}/{at.label}")
        pipelines[signal] = {
            "receivers": ["otlp"],
            "processors": passed[:-1],
            "exporters": [one for one in exporters if one.endswith(f"/{at.label}")],
        }
    return {
        "receivers": {"otlp": {"protocols": settings(receiver)}},
        "processors": processors,
        "exporters": exporters,
        "service": {"telemetry": {"metrics": {"level": "none"}}, "pipelines": pipelines},
    }


def kind(block: Block) -> str:
    return block.name.rpartition(".")[2]


def settings(block: Block) -> dict[str, Any]:
    """Blocks that may come more than once are lists there."""
    found = dict(block.values)
    for one in (one for one in block.blocks if one.name != "output"):
        if one.name.endswith("_statements"):
            found.setdefault(one.name, []).append(settings(one))
        else:
            found[one.name] = settings(one)
    return found
