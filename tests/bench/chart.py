"""The price list as a picture: CPU of a request, compared with the application alone.

In: parts of bench.json. Out: SVG, readable on white and on black.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from figures import Part

WIDTH, LEFT, RIGHT = 860, 190, 250  # the bars are between
BAR, GAP, GROUP = 16, 4, 18
TOP = 64
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.quiet { fill: #59636e }
.alone { fill: #8c959f } .app { fill: #2f81c7 } .agent { fill: #e08a00 } .in_process { fill: #b35ac4 }
@media (prefers-color-scheme: dark) { text { fill: #f0f6fc } .quiet { fill: #9198a1 } }
"""


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def bar(x: float, y: float, width: float, kind: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.0f}" width="{max(width, 1):.1f}" height="{BAR}" class="{kind}"/>'


def median(found: Part, key: str) -> float:
    return float(found[key]["median"])


def segments(name: str, found: Part) -> list[tuple[str, float]]:
    """Kinds and lengths of the parts of a bar; the application alone is 1."""
    if name == "alone":
        return [("alone", 1.0)]
    if name == "autoinstr":
        return [("app", median(found, "app_ratio")), ("agent", median(found, "agent_ratio"))]
    return [(name, median(found, "cpu_ratio"))]


def said(name: str, found: Part) -> str:
    if name == "alone":
        return f"{median(found, 'app_us'):,.0f} µs, {median(found, 'rate'):,.0f} requests/s"
    return f"CPU {median(found, 'cpu_ratio'):.2f}, requests/s {median(found, 'throughput_ratio'):.2f}"


def draw(parts: Sequence[Part]) -> str:
    """Bars of applications, those of one beneath each other."""
    longest = max(median(one, "cpu_ratio") for part in parts for one in part["variants"].values() if "cpu_ratio" in one)
    unit = (WIDTH - LEFT - RIGHT) / longest
    lines = [
        text(0, 16, "CPU of one request, compared with the application alone (1)", "title"),
        text(0, 36, "as many requests as two cores can do, shared by load generator, application and agent", "quiet"),
    ]
    y = TOP
    for part in parts:
        lines.append(text(0, y - 6, part["title"].partition(";")[0], "title"))
        for name, found in part["variants"].items():
            lines.append(text(LEFT - 8, y + BAR - 4, found["title"], "quiet", "end"))
            x = float(LEFT)
            for kind, length in segments(name, found):
                lines.append(bar(x, y, length * unit, kind))
                x += length * unit
            lines.append(text(x + 6, y + BAR - 4, said(name, found)))
            y += BAR + GAP
        y += GROUP + GAP
    legend = (
        ("alone", "application alone"),
        ("app", "watched by autoinstr"),
        ("agent", "autoinstr"),
        ("in_process", "agent inside"),
    )
    for at, (kind, words) in enumerate(legend):
        lines += [bar(at * 190, y, BAR, kind), text(at * 190 + 24, y + BAR - 4, words, "quiet")]
    height = y + BAR + 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">\n'
        f"<style>{STYLE}</style>\n" + "\n".join(lines) + "\n</svg>\n"
    )
