"""Pictures of each page, for README and docs: the demo runs, a browser looks at it. `make pictures`.

In: the demo. Out: docs/ui.png (four pages in one), docs/ui-*.png.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))

import browser as browsers  # noqa: E402 - where the tests have it
from browser import DESK, PHONE, Window  # noqa: E402
from playwright.sync_api import Page  # noqa: E402

DOCS = ROOT / "docs"
GATHER = 75  # seconds until there is something to see
PAGES = {"services": "services", "service": "service/shop", "map": "map", "traces": "traces", "agent": "agent"}
SHEET = ("services", "service", "map", "trace")


@contextmanager
def demo() -> Iterator[str]:
    """The address of its page."""
    command = [sys.executable, str(ROOT / "examples/demo.py")]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "DEMO_SECONDS": "600"})
    assert running.stdout
    try:
        for line in running.stdout:
            if found := re.search(r"the page: (\S+)", line):
                yield found[1]
                break
    finally:
        running.terminate()
        running.communicate(timeout=30)


def take(window: Window, page: Page, name: str) -> None:
    page.wait_for_timeout(1500)
    if name == "agent":
        page.locator("tr", has_text="sys_exit").wait_for()  # hits of probes were counted
    page.screenshot(path=DOCS / f"ui-{name}.png")
    assert not window.complaints, window.complaints


def whole_trace(window: Window) -> Page:
    """One that went through several services."""
    page = window.go("traces?service=nginx&kind=server&failed=0&text=%2Fproducts", "Traces")
    page.locator("#spans tbody a").nth(3).click()
    page.locator(".waterfall .span").first.wait_for()
    return page


def sheet(page: Page) -> None:
    """Four of them as one picture, half as large."""
    images = "".join(f'<img src="{(DOCS / f"ui-{name}.png").as_uri()}">' for name in SHEET)
    grid = "display:grid;grid-template-columns:640px 640px;gap:12px;padding:12px"
    style = f"body{{margin:0;background:#8a93a3;{grid}}}img{{width:640px;display:block;border-radius:6px}}"
    made = DOCS / ".sheet.html"
    made.write_text(f"<style>{style}</style>{images}")
    try:
        page.set_viewport_size({"width": 1316, "height": 936})
        page.goto(made.as_uri())
        page.wait_for_timeout(500)
        page.screenshot(path=DOCS / "ui.png")
    finally:
        made.unlink()


def main() -> None:
    with demo() as address, browsers.start() as browser:
        time.sleep(GATHER)
        with browsers.window(browser, address, DESK) as window:
            for name, route in PAGES.items():
                take(window, window.go(route), name)
            take(window, whole_trace(window), "trace")
        with browsers.window(browser, address, DESK, "dark") as window:
            take(window, window.go("services"), "dark")
        with browsers.window(browser, address, PHONE) as window:
            take(window, window.go("services"), "phone")
        with browsers.window(browser, "file://", DESK) as window:
            sheet(window.page)


if __name__ == "__main__":
    main()
