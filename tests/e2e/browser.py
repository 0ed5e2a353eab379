"""A real browser on a page, which notes all that a page must not do.

In: the address of a page. Out: pages to look at, and complaints: errors of scripts, violations of the page's own
policy, requests that failed or went anywhere else.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

PROGRAM = shutil.which("chromium")
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


@dataclass
class Window:
    """One page of the browser."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda said: self._complain(said.type in ("error", "warning"), f"console: {said.text}"))
        self.page.on("pageerror", lambda error: self._complain(True, f"script: {error}"))
        self.page.on(
            "request", lambda asked: self._complain(not asked.url.startswith(self.address), f"to: {asked.url}")
        )
        # One that the page itself breaks off, as it goes to another, is no complaint.
        self.page.on(
            "requestfailed", lambda one: self._complain(one.failure != "net::ERR_ABORTED", f"failed: {one.url}")
        )

    def _complain(self, wrong: bool, what: str) -> None:
        if wrong:
            self.complaints.append(what)

    def go(self, route: str, title: str = "") -> Page:
        """A page of the page, once it is filled."""
        self.page.goto(f"{self.address}#/{route}")
        self.page.locator(f"main[data-filled='{title}']" if title else "main[data-filled]").wait_for()
        return self.page

    def tiles(self) -> dict[str, str]:
        """The large figures."""
        found: dict[str, str] = self.page.evaluate(
            "Object.fromEntries([...document.querySelectorAll('.tile')].map(tile =>"
            " [tile.querySelector('dt').textContent, tile.querySelector('dd').firstChild.textContent]))"
        )
        return found

    def rows(self, caption: str) -> list[dict[str, str]]:
        """A table's, by the titles of its columns."""
        found: list[dict[str, str]] = self.page.evaluate(
            """caption => {
                const all = [...document.querySelectorAll("table")];
                const table = all.find(one => one.caption?.textContent === caption);
                return [...table.tBodies[0].rows].filter(row => !row.querySelector(".empty")).map(row =>
                    Object.fromEntries([...row.cells].map(cell => [cell.dataset.label, cell.textContent.trim()])));
            }""",
            caption,
        )
        return found

    def inaccessible(self) -> list[str]:
        """What axe finds wrong."""
        found: list[dict[str, Any]] = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary']}" for one in found]


@contextmanager
def start() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=flags)
        yield browser
        browser.close()


@contextmanager
def window(
    browser: Browser, address: str, size: dict[str, int] | None = None, scheme: str = "light"
) -> Iterator[Window]:
    """A fresh profile."""
    context = browser.new_context(viewport=size or DESK, color_scheme=scheme)
    context.set_default_timeout(20_000)
    yield Window(context.new_page(), address)
    context.close()
