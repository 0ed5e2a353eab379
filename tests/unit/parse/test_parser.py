"""The stage as a whole: what is left out, batches of any size, protocols beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoinstr.capture.abi import Protocol
from autoinstr.health import Health, Loss
from autoinstr.parse import Groups, Parser, RouteOptions, parser, registry
from autoinstr.parse import protocols as folder

from .exchanges import batch, get


def make() -> tuple[Parser, Health]:
    health = Health()
    return Parser(Groups(health), RouteOptions(), health), health


def test_an_empty_batch() -> None:
    stage, health = make()
    requests = stage.parse(batch(), np.empty(0, np.int32), 0)
    assert len(requests) == 0
    assert requests.peer.shape == (0, 16)
    assert not health.lost


def test_what_nobody_knows_is_left_out_and_counted() -> None:
    stage, health = make()
    records = batch(get("/a"), get("/b", protocol=99), get("/c", role=0), get("/d"), get("/e"))
    requests = stage.parse(records, np.array([0, 0, 0, -1, 0], np.int32), 0)
    assert requests.text.tobytes() == b"/a/e"
    assert health.lost == {Loss.PARSE_ERROR: 2}  # one that is of no service is none that is lost


def test_a_batch_is_cut_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser, "CHUNK", 3)
    stage, _ = make()
    paths = [f"/{'x' * (index % 5)}/{index}" for index in range(11)]
    requests = stage.parse(batch(*map(get, paths)), np.zeros(11, np.int32), 0)
    found = [requests.text[at:][:size] for at, size in zip(requests.text_at, requests.text_size, strict=True)]
    assert [text.tobytes().decode() for text in found] == paths


def test_protocols_keep_the_order_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.PROTOCOLS, 7, registry.PROTOCOLS[Protocol.HTTP1])
    stage, _ = make()
    paths = ["/a", "/bb", "/ccc", "/dd"]
    records = batch(*[get(path, protocol=1 + index % 2 * 6) for index, path in enumerate(paths)])
    requests = stage.parse(records, np.zeros(4, np.int32), 0)
    found = [requests.text[at:][:size] for at, size in zip(requests.text_at, requests.text_size, strict=True)]
    assert [text.tobytes().decode() for text in found] == paths


def test_a_view_into_the_ring_is_only_read() -> None:
    stage, _ = make()
    ring: Any = np.zeros(4, np.dtype([("header", "<u8"), ("record", batch().dtype)]))
    ring["record"] = batch(*map(get, ["/a", "/b", "/c", "/d"]))
    ring.setflags(write=False)
    requests = stage.parse(ring["record"], np.zeros(4, np.int32), 0)
    before = requests.text.tobytes(), requests.peer.tobytes()
    ring.setflags(write=True)
    ring["record"] = 0
    stage.parse(ring["record"], np.zeros(4, np.int32), 0)
    assert (requests.text.tobytes(), requests.peer.tobytes()) == before


def test_without_a_response_the_request_ends_with_its_own_last_byte() -> None:
    stage, _ = make()
    times = [(10, 30, 0), (10, 0, 0), (10, 30, 20), (10, 0, 5)]
    records = batch(*[get("/", request_start=start, request_end=end, response_end=done) for start, end, done in times])
    requests = stage.parse(records, np.zeros(4, np.int32), 100)
    assert requests.start.tolist() == [110] * 4
    assert requests.end.tolist() == [130, 110, 120, 110]


def test_every_protocol_has_its_line() -> None:
    files = {path.stem for path in Path(next(iter(folder.__path__))).glob("*.py")} - {"__init__"}
    assert files == {made.__module__.rpartition(".")[2] for made in registry.PROTOCOLS.values()}
