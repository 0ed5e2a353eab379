"""What stages have learned of services that are no more is forgotten; everything else goes on, exactly.

`model.Follower` says what they are promised: another list of groups, and of services, with others in some places.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from unit.parse.exchanges import batch, exchange, get
from unit.spans.batches import START, Row, make_group, make_traced

from autoinstr.correlate import Correlator, make_sampler
from autoinstr.export.otlp.merge import merge
from autoinstr.export.otlp.queue import MetricBatch, MetricQueue
from autoinstr.health import Health
from autoinstr.model import NOBODY, Group, Kind, Service, Snapshot
from autoinstr.parse import Groups, Parser, RouteOptions, hosts
from autoinstr.red import Red
from autoinstr.spans import RequestLogEncoder, SpanEncoder, span_records
from autoinstr.store import Store, Wanted, series, store
from autoinstr.store.counts import tally
from autoinstr.store.disk import Disk
from autoinstr.web.facts import Facts

DURATION = "http.server.request.duration"
TOTAL = "traces_service_graph_request_total"


def named(name: str) -> Service:
    return Service(name, {"service.name": name, "service.instance.id": name})


class Epochs:
    """Services that come and go, and their groups: what discovery and parser would hand out."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.services = [named(f"s{number}") for number in range(6)]
        self.groups: list[Group] = []
        self.made = len(self.services)
        self.free: list[int] = []

    def row(self, **more: Any) -> Row:
        """Of any service, of a group that is made when it is needed."""
        service = self.random.choice([n for n, one in enumerate(self.services) if one is not NOBODY])
        wanted = make_group(service, status=self.random.choice([200, 404, 500]))
        if wanted not in self.groups:
            self.groups.append(wanted)
        number = self.groups.index(wanted)
        return Row(number, duration=self.random.randrange(1, 10**9), text=f"/{self.services[service].name}", **more)

    def of(self, row: Row) -> str:
        return self.services[self.groups[row.group].service].name

    def retire(self) -> set[int]:
        lives = [number for number, one in enumerate(self.services) if one is not NOBODY]
        gone = set(self.random.sample(lives, 2))
        self.services = [NOBODY if number in gone else one for number, one in enumerate(self.services)]
        self.free += sorted(gone)
        self.groups = []
        return gone

    def come(self) -> None:
        """Two others take free places."""
        for number in [self.free.pop() for _ in range(2)]:
            self.services[number] = named(f"s{self.made}")
            self.made += 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("exponential", [False, True])
def test_red_stays_exact(seed: int, *, exponential: bool) -> None:
    epochs = Epochs(seed)
    red = Red(Health(), start=START, exponential=exponential)
    kinds = ("cumulative", "delta", "cumulative")
    total, delta, seldom = (red.reader(kind, exponential=exponential) for kind in kinds)
    truth: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    told: Counter[str] = Counter()
    calls: Counter[str] = Counter()

    def counted(snapshot: Snapshot) -> tuple[Counter[str], Counter[str], Counter[str]]:
        found, took, edges = Counter[str](), Counter[str](), Counter[str]()
        for one in snapshot.series:
            name = epochs.services[one.service].name
            assert name, "a series of nobody"
            if one.name == DURATION:
                buckets = one.buckets if one.exponential is None else one.exponential.counts
                assert buckets is not None and int(buckets.sum()) == one.count
                found[name] += one.count
                took[name] += round(one.sum * 10**9)
                assert all(example.trace_id == name.encode().ljust(16, b".") for example in one.exemplars)
            elif one.name == TOTAL:
                assert one.attributes["server"] == name
                edges[f"{one.attributes['client']} {name}"] += one.count
        return found, took, edges

    for epoch in range(8):
        for _ in range(3):
            rows = [epochs.row() for _ in range(20)]
            rows = [replace(row, trace=epochs.of(row).encode().ljust(16, b".")) for row in rows]
            peers = [epochs.groups[epochs.row().group].service for _ in rows]
            truth.update(map(epochs.of, rows))
            for row, peer in zip(rows, peers, strict=True):
                sums[epochs.of(row)] += row.duration
                calls[f"{epochs.services[peer].name} {epochs.of(row)}"] += 1
            red.add(make_traced(rows), epochs.groups)
            red.graph.add(make_traced(rows), epochs.groups, epochs.services, np.array(peers, np.int32))
            told.update(counted(delta.collect(START))[0])
        assert told == truth
        found, took, edges = counted(total.collect(START))
        lives = {one.name for one in epochs.services}
        assert found == {name: count for name, count in truth.items() if name in lives}
        assert took == {name: count for name, count in sums.items() if name in lives}
        assert edges == {edge: count for edge, count in calls.items() if edge.split()[1] in lives}
        if epoch % 2:
            assert counted(seldom.collect(START))[0] == found
        rows_before = len(red.table.rows)
        red.forget(epochs.retire())
        assert len(red.table.rows) < rows_before
        assert not delta.collect(START).series, "nothing is told twice"
        epochs.come()


def test_red_with_the_same_groups_as_before() -> None:
    red, groups = Red(Health(), start=START), [make_group(0), make_group(1)]
    red.add(make_traced([Row(0), Row(1)]), groups)
    red.forget({0})
    red.add(make_traced([Row(1)]), groups)
    (left,) = [one for one in red.reader().collect(START).series if one.name == DURATION]
    assert (left.service, left.count) == (1, 2)


@pytest.mark.parametrize("kind", ["spans", "logs"])
def test_spans_and_logs_are_of_who_they_are_of(kind: str) -> None:
    epochs = Epochs(7)
    encoder = SpanEncoder("1") if kind == "spans" else RequestLogEncoder("1")
    message: Any = ExportTraceServiceRequest if kind == "spans" else ExportLogsServiceRequest
    for _ in range(5):
        rows = [epochs.row() for _ in range(30)]
        expected = Counter((epochs.of(row), f"/{epochs.of(row)}") for row in rows)
        found: Counter[tuple[str, str]] = Counter()
        for part in encoder.encode(make_traced(rows), epochs.groups, epochs.services):
            told = message.FromString(part.data)
            for resource in told.resource_spans if kind == "spans" else told.resource_logs:
                service = {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"]
                scopes = resource.scope_spans if kind == "spans" else resource.scope_logs
                for item in (
                    one for scope in scopes for one in (scope.spans if kind == "spans" else scope.log_records)
                ):
                    attributes = {one.key: one.value for one in item.attributes}
                    found[service, attributes["url.path"].string_value] += 1
                    if kind == "logs":
                        status = attributes["http.response.status_code"].int_value
                        assert f"GET /{service} {status} " in item.body.string_value
        assert found == expected
        epochs.retire()
        epochs.come()


def test_who_tells_of_himself_is_not_confused_with_who_gets_his_place() -> None:
    correlator = Correlator(make_sampler("always_on"), Health())
    client = [replace(make_group(0, Kind.CLIENT), text_key="url.path")]
    exports = make_traced([Row(0, text="/v1/traces")]).requests
    assert not correlator.correlate(exports, client).sampled.any(), "it sends spans by itself"
    serves = [make_group(0)]
    correlator.forget({0})
    assert correlator.correlate(make_traced([Row(0)]).requests, serves).sampled.all()


def test_metrics_that_wait_for_a_backend_keep_their_services() -> None:
    """Deltas are added up while it is away, and meanwhile a place was given to another."""
    epochs = Epochs(3)
    red = Red(Health(), start=START)
    reader, queue = red.reader("delta"), MetricQueue(merge)
    truth: Counter[str] = Counter()
    for _ in range(6):
        rows = [epochs.row() for _ in range(20)]
        truth.update(map(epochs.of, rows))
        red.add(make_traced(rows), epochs.groups)
        queue.put(MetricBatch(reader.collect(START), list(epochs.services)))
        red.forget(epochs.retire())
        epochs.come()
    batch = queue.take()
    assert batch
    found: Counter[str] = Counter()
    for one in batch.snapshot.series:
        if one.name == DURATION:
            found[batch.services[one.service].name] += one.count
    assert found == truth
    assert len(batch.services) <= epochs.made


def test_parsing_goes_on_with_what_it_knows() -> None:
    """Groups are other ones, and there is room for them again; a service's patterns are those of its name."""
    health, services = Health(), [named("shop"), named("cart")]
    groups = Groups(health, max_groups=2)
    parser = Parser(groups, RouteOptions(by_service={"cart": ["/{of-cart}"]}), health, services=services)

    def routes(service: int, *paths: str) -> list[object]:
        of = np.full(len(paths), service, np.int32)
        found = parser.parse(batch(*map(get, paths)), of, 0).group.tolist()
        return [groups.groups[number].metric_attributes.get("http.route") for number in found]

    assert routes(0, "/a/12/b", "/c", "/d") == ["/a/*/b", "/c", None]
    assert routes(1, "/a") == [None], "there is no room for a group of it"
    before = groups.groups
    parser.begin_anew([named("cart"), named("shop")])
    assert groups.groups == [] != before
    assert routes(0, "/a") == ["/{of-cart}"]
    assert routes(1, "/a/13/b") == ["/a/*/b"]


def test_hosts_that_were_called_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that call pods by their addresses meet other ones all the time."""
    monkeypatch.setattr(hosts, "MAX_HOSTS", 2)
    health = Health()
    groups = Groups(health)
    parser = Parser(groups, RouteOptions(), health, services=[named("prober")])

    def called(*names: str) -> list[object]:
        calls = batch(*[exchange(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode(), role=3) for name in names])
        found = parser.parse(calls, np.zeros(len(names), np.int32), 0).group.tolist()
        return [groups.groups[number].metric_attributes.get("server.address") for number in found]

    assert called("a", "b", "c", "a") == ["a", "b", None, "a"]
    parser.begin_anew([named("prober")])
    assert called("c", "a") == ["c", "a"]


class Page:
    """The store, and what a page says of it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.facts = Facts(store)

    def counts(self, at: int) -> Counter[str]:
        """Requests around a time by service."""
        self.facts.learn()
        label = np.arange(len(self.store.series), dtype=np.int32)
        counted = self.store.counted(at // 10**9 - 60, at // 10**9 + 60)
        found = Counter[str]()
        for number, count in enumerate(tally(counted.pieces, label, len(label)).sum(axis=1).tolist()):
            found[self.facts.all[number].service] += int(count)
        return +found

    def counted(self, at: int) -> Counter[str]:
        """The same, of which there are as many spans."""
        rows = self.store.search(Wanted(begin=at // 1000 - 60 * 10**6), 1 << 20, lambda: False).rows
        spans = Counter[str]()
        for one in span_records(*self.store.traced(rows)):
            assert one["attributes"]["url.path"] == f"/{one['resource']['service.name']}"
            spans[one["resource"]["service.name"]] += 1
        assert self.counts(at) == spans
        return spans


@pytest.mark.parametrize("crowded", [False, True])
def test_the_page_shows_whose_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, crowded: bool) -> None:
    """Also where numbers of series of which nothing is left are given to others, in memory and on disk."""
    if crowded:
        monkeypatch.setattr(series, "MAX_SERIES", 60)
    epochs, kept = Epochs(5), Store(1 << 24)
    disk, page = Disk(tmp_path, kept, Health()), Page(kept)
    truth: Counter[str] = Counter()
    kinds: set[tuple[str, str]] = set()
    now = time.time_ns()
    for epoch in range(24):
        at = now - (7 - epoch // 3) * 2 * 86400 * 10**9 if crowded else now
        if crowded and epoch % 3 == 0:
            truth.clear()
        for _ in range(2):
            rows = [epochs.row(start=at) for _ in range(10)]
            truth.update(map(epochs.of, rows))
            kinds |= {(epochs.of(row), repr(epochs.groups[row.group].metric_attributes)) for row in rows}
            kept.add(make_traced(rows), epochs.groups, epochs.services)
            disk.save()
            assert page.counted(at) == truth
        epochs.retire()
        epochs.come()
    assert (len(kept.series) <= 60) if crowded else (len(kept.series) == len(kinds) > 60)
    disk.close()
    again = Store(1 << 24)
    os.close(Disk(tmp_path, again, Health()).lock)
    assert Page(again).counted(at) == truth


def test_where_too_many_have_ended_the_oldest_makes_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_IN_USE", 40)
    epochs, kept = Epochs(5), Store(1 << 24)
    page = Page(kept)
    began = time.time_ns() - 1000 * 10**9
    for epoch in range(100):
        at = began + epoch * 5 * 10**9
        rows = [epochs.row(start=at, sampled=False) for _ in range(10)]  # a chunk of spans goes as a whole
        kept.add(make_traced(rows), epochs.groups, epochs.services)
        told = page.counts(at)
        assert all(told[name] >= count for name, count in Counter(map(epochs.of, rows)).items())
        epochs.retire()
        epochs.come()
    assert len(kept.series) < 100
