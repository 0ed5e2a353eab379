"""How right autoinstr is: real servers and clients, real traffic, and the agent's word against the truth. Root.

Usage: run.py [--rows nginx,go] [--transports h2c,h2] [--shapes keep-alive,aborts] [--traces chain,node] [--short]
[--output FOLDER] [--picture FILE] [--list]

The matrix is (server or client) x (framework) x (transport) x (shape of traffic); see `rows` and `shapes`. Behind it
come whole traces, see `chain`. Prints them as tables, and writes score.json and score.html. Ends with status 1 if
anything that ran is not right. With --rows or --shapes alone there are no traces, with --traces alone no matrix.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e"), str(HERE.parent / "bench")]

import chain  # noqa: E402 - found by the line above
import report  # noqa: E402
import routes  # noqa: E402
from agent import PROGRAM  # noqa: E402
from cells import Cell  # noqa: E402
from comparison import compare  # noqa: E402
from generator import Made, UnableError  # noqa: E402
from rows import BrokenError, ClientRow, ServerRow, all_rows  # noqa: E402
from servers import TRANSPORTS  # noqa: E402
from shapes import SHAPES, Shape  # noqa: E402
from truth import path_of  # noqa: E402
from watch import TOLD_WITHIN, Watch  # noqa: E402

Row = ServerRow | ClientRow
SHORT_ROWS = ("nginx", "uvicorn", "requests", "grpc-go", "grpcio")
SHORT_SECONDS = 0.5


class Part:
    """The cells of one row that share a run of the agent."""

    def __init__(self, row: Row, shapes: Collection[Shape], seconds: float) -> None:
        self._row = row
        self._seconds = seconds
        self._shapes = shapes
        self._made: dict[str, list[Made]] = {}
        self._counts: dict[str, Any] = {}
        self._spans_before: dict[str, int] = {}
        self.cells = {shape.name: Cell(row.name, row.kind, row.transport, shape.name) for shape in shapes}

    def run(self) -> Iterator[Cell]:
        watch = Watch(self._row.flags())
        try:
            if not all(shape.late for shape in self._shapes):
                watch.start()
            for shape in self._shapes:
                self._play(watch, shape)
            watch.stop()
        except AssertionError as error:  # the agent did not start, answer or end as it should: no cell of it is right
            for name in self.cells:
                self._break(name, error)
        finally:
            watch.kill()
        for name, cell in self.cells.items():
            yield compare(cell, self._made[name], self._told_of(watch, name), self._counts[name]) if cell.ran else cell

    def _id(self, shape: str) -> str:
        return f"{self._row.name}.{self._row.kind[0]}.{self._row.transport}.{shape}"

    def _break(self, shape: str, error: Exception) -> None:
        print(error, file=sys.stderr)
        cell = self.cells[shape]
        cell.reason, cell.broken = str(error).strip().splitlines()[-1], True

    def _play(self, watch: Watch, shape: Shape) -> None:
        cell, begun, made = self.cells[shape.name], time.monotonic(), []
        try:
            made = self._row.play(shape, self._id(shape.name), self._seconds, watch.start)
        except UnableError as error:
            cell.reason, made = str(error), list(error.made)
        except BrokenError as error:
            self._break(shape.name, error)
            self._row.restart()
            time.sleep(TOLD_WITHIN)  # whatever it made is not to be taken for the next cell's
        self._made[shape.name] = made
        if watch.running:
            self._counts[shape.name], lost = watch.settle(made)
            cell.lost = dict(lost)
        print(f"    {shape.name}: {len(made)} requests, {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)

    def _told_of(self, watch: Watch, shape: str) -> list[dict[str, Any]]:
        """Spans whose path has the cell's id; the last cell takes what has none."""
        cell_of = {one.expected.path: name for name, made in self._made.items() for one in made}
        ids = {f"/{self._id(name)}-": name for name in self.cells}
        last = list(self.cells)[-1]

        def cell(span: dict[str, Any]) -> str:
            path = path_of(span)
            return cell_of.get(path) or next((name for id_, name in ids.items() if id_ in path), last)

        return [span for span in watch.spans if cell(span) == shape]


def run_row(row: Row, shapes: Collection[Shape], seconds: float) -> Iterator[Cell]:
    def grey(shape: Shape, reason: str) -> Cell:
        return Cell(row.name, row.kind, row.transport, shape.name, reason=reason)

    if reason := row.lacking():
        yield from (grey(shape, reason) for shape in shapes)
        return
    able = []
    for shape in shapes:
        if reason := row.unable(shape):
            yield grey(shape, reason)
        else:
            able.append(shape)
    try:
        row.start()
    except subprocess.CalledProcessError as error:  # a toolchain that can't be had here
        row.stop()
        for shape in able:
            yield grey(shape, f"could not be built: {' '.join(error.cmd)}")
        return
    try:
        for shape in able:
            if shape.late:
                yield from Part(row, [shape], seconds).run()
        if together := [shape for shape in able if not shape.late]:
            yield from Part(row, together, seconds).run()
    finally:
        row.stop()


def chosen(names: str, known: Collection[str], parser: argparse.ArgumentParser) -> set[str]:
    wanted = {name for name in names.replace(" ", ",").split(",") if name}
    if strange := wanted - set(known):
        parser.error(f"knows no {', '.join(sorted(strange))}; there are: {', '.join(dict.fromkeys(known))}")
    return wanted or set(known)


def main() -> int:
    parser = argparse.ArgumentParser(description="How right autoinstr is: what it tells, held against the truth.")
    parser.add_argument("--rows", default="", help="only these, by name, with commas")
    parser.add_argument("--transports", default="", help="of these rows only those over them, with commas")
    parser.add_argument("--shapes", default="", help="only these, by name, with commas")
    parser.add_argument("--traces", default="", help="only these, by name, with commas: chain, or a service")
    parser.add_argument("--seconds", type=float, default=2.0, help="of load at full speed")
    parser.add_argument("--short", action="store_true", help="few cells, quickly")
    parser.add_argument("--output", type=Path, default=Path("score"), help="folder for score.json and score.html")
    parser.add_argument("--picture", type=Path, help="write the matrix as SVG, too")
    parser.add_argument("--list", action="store_true", help="the rows and shapes that there are")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="score-") as folder:
        rows = all_rows(Path(folder))
        if options.list:
            report.show_known(rows, SHAPES, chain.NAMES)
            return 0
        if os.geteuid() != 0:
            parser.error("needs root")
        names = chosen(options.rows, [*(row.name for row in rows), *routes.NAMES], parser)
        columns = chosen(options.shapes, [*(shape.name for shape in SHAPES), routes.SHAPE], parser)
        if options.short:
            names &= set(SHORT_ROWS)
            columns &= {shape.name for shape in SHAPES if shape.short}
        traces = chosen(options.traces, chain.NAMES, parser)
        if options.traces and not options.rows and not options.shapes:
            names = set()
        elif not options.traces and (options.rows or options.shapes):
            traces = set()
        if options.short:
            traces &= set(chain.SHORT)
        shapes = [shape for shape in SHAPES if shape.name in columns]
        transports = chosen(options.transports, TRANSPORTS, parser)
        rows = [row for row in rows if row.name in names and row.transport in transports]
        subprocess.run([PROGRAM, "check"], stdout=subprocess.DEVNULL, check=False)  # compiles, if that is to be done
        begun = time.monotonic()
        cells: list[Cell] = []
        for row in rows:
            print(f"{row.kind} {row.name} over {row.transport} ...", file=sys.stderr, flush=True)
            cells += run_row(row, shapes, SHORT_SECONDS if options.short else options.seconds)
        if routes.SHAPE in columns:
            cells += routes.play(Path(folder), names)
        trials = chain.play(Path(folder), traces, options.short)
        score = report.Score(cells, list(dict.fromkeys(cell.shape for cell in cells)), time.monotonic() - begun, trials)
    score.show()
    score.write(options.output, options.picture)
    return 0 if score.right else 1


if __name__ == "__main__":
    sys.exit(main())
