"""The page that autoinstr brings itself: keeps the recent past in a store, and serves it.

In: traced batches, and what was only counted. Out: a page and a JSON API over HTTP.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoinstr.address import Address, parse_address
from autoinstr.errors import UsageError
from autoinstr.export.base import Context, Exporter
from autoinstr.health import Health
from autoinstr.model import Group, Overflow, Service, Snapshot, Traced
from autoinstr.store import Store
from autoinstr.web import Api, WebServer

if TYPE_CHECKING:
    from autoinstr.store.disk import Disk

# Seconds between two readings of what the agent costs; what has come meanwhile is written to disk, if it is asked for.
READ_EVERY = 5.0
CHECK_WITHIN = 60.0  # seconds
START_SEEN = 0.1


class Ui:
    name = "ui"
    wants_spans = True
    wants_metrics = False

    def __init__(self, store: Store, disk: Disk | None, api: Api, server: WebServer, health: Health) -> None:
        self.server = server
        self._disk = disk
        self._store = store
        self._api = api
        self._health = health
        self._closed = threading.Event()
        self._reader = threading.Thread(target=self._read, name="ui costs", daemon=True)
        self._reader.start()

    def spans(self, traced: Traced, groups: list[Group], services: list[Service]) -> None:
        self._store.add(traced, groups, services)

    def counted(self, overflow: Overflow, service: int, services: list[Service]) -> None:
        self._store.add_counted(overflow, service, services, time.time_ns())

    def metrics(self, snapshot: Snapshot, services: list[Service]) -> None:
        pass

    def close(self, deadline: float) -> None:
        self._closed.set()
        self._reader.join(max(0.0, deadline - time.monotonic()))
        if self._disk and not self._reader.is_alive():
            self._disk.close()
        self.server.close(deadline)

    def _read(self) -> None:
        health = self._health
        while not health.looked and not self._closed.wait(START_SEEN):
            pass
        self._api.started = time.time()  # what came before is no time without requests
        while not self._closed.is_set():
            health.measure()
            health.gauges["store_bytes"], health.gauges["store_spans"] = self._store.size()
            self._api.note(health.work["cpu_seconds"], health.gauges["memory_bytes"])
            if self._disk:
                self._disk.save()
            self._closed.wait(READ_EVERY)


def create(context: Context) -> Exporter:
    """UsageError: the address can't be bound. Says where the page is."""
    store = Store(context.ui_memory)
    disk = open_disk(context, store)
    api = Api(store, context.inside, context.span_records, ask_host, measure=context.measure)
    server = listen(context, api)
    print(f"page: {server.link}", file=sys.stderr, flush=True)
    return Ui(store, disk, api, server, context.health)


def open_disk(context: Context, store: Store) -> Disk | None:
    if not context.ui_store:
        return None
    from autoinstr.store.disk import Disk  # noqa: PLC0415 - seldom asked for

    return Disk(Path(context.ui_store), store, context.health)


def ask_host() -> dict[str, Any]:
    """What `autoinstr check` says: in a process of its own, since that imports and compiles what we never want here."""
    command = [sys.executable, "-m", "autoinstr", "check", "--json"]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=CHECK_WITHIN, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def listen(context: Context, api: Api) -> WebServer:
    """At the address that was asked for; if none was, at the default one, or any other port."""
    address = parse_address(context.ui)
    try:
        return WebServer(address, context.ui_token, api, context.health)
    except (OSError, OverflowError) as error:
        if not context.ui:
            return WebServer(Address(address.host, 0), context.ui_token, api, context.health)
        raise UsageError(f"--ui {context.ui}: can't listen there: {error}; choose another") from error
