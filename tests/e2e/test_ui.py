"""The page in a real browser, and `top` in a terminal, on an agent that watches real servers: they show what was sent.

nginx answers some requests itself and hands the rest to Node; the agent watches both.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import browser as browsers
import load
import pytest
import servers
from agent import PROGRAM, Agent
from browser import DESK, PHONE, Window
from many import Many
from playwright.sync_api import Browser, Page, expect
from servers import FRONT, Running
from terminal import Terminal

COUNT = 197
REQUESTS = 5  # to the first of many services
BY_NGINX = "/s/200/d/0/b/3/c/0/"  # what it answers itself
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SETTLED = 20.0  # seconds within which an interval has been told
PAGES = ("services", "service/nginx", "map", "traces", f"trace/{TRACE}", "agent")

pytestmark = [
    pytest.mark.skipif(bool(servers.missing(FRONT)), reason="needs nginx and node"),
    pytest.mark.skipif(not browsers.PROGRAM, reason="needs chromium"),
]


@dataclass
class Site:
    """What runs, what was sent, and where it is shown."""

    agent: Agent
    front: Running
    address: str
    name: str  # of the service behind nginx
    sent: Counter[int]  # requests to nginx, by status
    passed: Counter[int]  # those that it handed on

    def ask(self, question: str) -> Any:
        with urllib.request.urlopen(f"{self.address}api/{question}", timeout=10) as answer:
            return json.load(answer)

    def request(self, path: str, **headers: str) -> None:
        asked = urllib.request.Request(f"http://127.0.0.1:{self.front.port}{path}", headers=headers)
        urllib.request.urlopen(asked, timeout=10).read()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_agent: Callable[..., Agent]) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("ui")
    node = servers.launch(servers.by_name("node", servers.SERVERS), folder / "node")
    front = servers.launch(FRONT, folder / "front", node=node.port)
    for running in (node, front):
        servers.wait_up(running)
    agent = module_agent("--port", f"{front.port},{node.port}", "--ui", "127.0.0.1:0", exports=("ui",))
    plans = [plan for plan in load.plans("ui", COUNT) if plan.method != "HEAD"]
    plans += [load.Plan(f"{BY_NGINX}own-{number}") for number in range(COUNT)]
    told = load.run(partial(servers.connect, front), plans)
    itself = [one for one in told if one.path.startswith(BY_NGINX)]
    sent = Counter(one.status for one in told)
    site = Site(agent, front, agent.page, "", sent, sent - Counter(one.status for one in itself))
    site.request("/s/200/d/20/b/5/c/0/traced", traceparent=f"00-{TRACE}-{PARENT}-01")
    for counts in (site.sent, site.passed):
        counts[200] += 1
    targets = site.ask("agent")["targets"]
    site.name = next(one["service"] for one in targets if node.port in one["ports"])
    wait_until_told(site)
    yield site
    for running in (front, node):
        running.stop()


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SETTLED
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def wait_until_told(site: Site) -> None:
    """The truth, and nothing but the truth."""
    truth = {"nginx": sum(site.sent.values()), site.name: sum(site.passed.values())}
    end = time.monotonic() + SETTLED
    while (told := {one["name"]: one["count"] for one in site.ask("services")["services"]}) != truth:
        assert time.monotonic() < end, (told, truth)
        time.sleep(0.2)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.start() as one:
        yield one


@pytest.fixture
def window(browser: Browser, site: Site) -> Iterator[Window]:
    """Which has no reason to complain, whatever a test does with it."""
    with browsers.window(browser, site.address) as one:
        yield one
        assert one.complaints == []


def failed(counts: Counter[int]) -> int:
    return sum(count for status, count in counts.items() if status >= 500)


def share(counts: Counter[int]) -> Any:
    """As it is shown, with two digits or more."""
    return pytest.approx(failed(counts) / sum(counts.values()), rel=0.06)


def percent(text: str) -> float:
    return float(text.removesuffix(" %")) / 100


def milliseconds(text: str) -> float:
    value, unit = text.split()
    return float(value) * {"µs": 0.001, "ms": 1, "s": 1000}[unit]


def number(text: str) -> int:
    return int(text.replace(",", ""))


class TestPage:
    def test_services(self, window: Window, site: Site) -> None:
        window.go("services", "Services")
        total = site.sent + site.passed
        tiles = window.tiles()
        assert tiles["Services"] == "2"
        assert number(tiles["Requests"]) == sum(total.values())
        assert percent(tiles["Errors"]) == share(total)
        rows = {row["Service"]: row for row in window.rows("Services")}
        assert set(rows) == {"nginx", site.name}
        assert percent(rows["nginx"]["Errors"]) == share(site.sent)
        assert "HTTP/1.1" in rows["nginx"]["Captured"] and f"port {site.front.port}" in rows["nginx"]["Runs"]
        assert window.page.locator("tr", has_text=site.name).locator("svg.spark path.line").count() == 5
        window.page.get_by_role("button", name="Service", exact=True).click()
        assert [row["Service"] for row in window.rows("Services")] == sorted(rows)
        window.page.get_by_label("Filter services by name").fill("ngi")
        assert [row["Service"] for row in window.rows("Services")] == ["nginx"]
        window.page.locator("tbody tr td").first.click()
        window.page.wait_for_url("**/#/service/nginx")

    def test_service(self, window: Window, site: Site) -> None:
        page = window.go("service/nginx", "nginx")
        assert number(window.tiles()["Requests"]) == sum(site.sent.values())
        told = {
            int(row.locator(".chip").inner_text()): number(row.locator(".number").inner_text())
            for row in page.locator(".statuses li").all()
        }
        assert told == dict(site.sent)
        routes = window.rows("Routes and calls")
        served, called = (
            sum(number(row["Requests"]) for row in routes if row["Side"] == side) for side in ("serves", "calls")
        )
        assert (served, called) == (sum(site.sent.values()), sum(site.passed.values()))
        assert [row["Called by"] for row in window.rows("Callers")] == ["outside"]
        assert [row["Calls"] for row in window.rows("Callees")] == [site.name]
        slowest = window.rows("Slowest requests")
        assert len(slowest) == 10 and milliseconds(slowest[0]["Took"]) >= 29
        assert {int(row["Status"]) >= 500 for row in window.rows("Failed requests")} == {True}
        assert page.locator(".u-wrap canvas").count() == 3
        assert pixels(window, ".heat canvas") > 200, "the heat map is drawn"

    def test_map(self, window: Window, site: Site) -> None:
        page = window.go("map", "Map")
        assert sorted(page.locator("svg.map .label").all_text_contents()) == sorted(["outside", "nginx", site.name])
        told = {(row["From"], row["To"]): number(row["Requests"]) for row in window.rows("Calls")}
        assert told == {
            ("outside", "nginx"): sum(site.sent.values()),
            ("nginx", site.name): sum(site.passed.values()),
        }
        edges = page.locator("svg.map path.edge").all()
        wide = [float(edge.get_attribute("stroke-width") or 0) for edge in edges]
        assert len(wide) == 2 and max(wide) > min(wide), "more requests make a wider edge"
        boxes = [page.locator("svg.map .node", has_text=name).bounding_box() for name in ("outside", "nginx")]
        assert boxes[0] and boxes[1] and boxes[0]["x"] < boxes[1]["x"], "who calls stands before who is called"
        page.locator("svg.map a", has_text="nginx").click()
        page.wait_for_url("**/#/service/nginx")

    def test_search(self, window: Window, site: Site) -> None:
        page = window.go("traces", "Traces")
        page.get_by_label("path contains").fill("/ui-7")
        page.get_by_label("Side").select_option("server")
        page.get_by_label("Service").select_option("nginx")
        rows = page.locator("#spans tbody tr.leads")
        wanted = [plan for plan in load.plans("ui", COUNT) if "/ui-7" in plan.path and plan.method != "HEAD"]
        expect(rows).to_have_count(len(wanted))
        told = Counter(row["Request"].split()[0] for row in window.rows("Requests"))
        assert told == Counter(plan.method for plan in wanted)
        page.get_by_label("Outcome").select_option("1")
        expect(rows).to_have_count(sum(plan.path.startswith("/s/50") for plan in wanted))

    def test_a_trace(self, window: Window, site: Site) -> None:
        """One that came with a request, and went through nginx to Node."""
        page = window.go("traces", "Traces")
        page.get_by_label("path contains").fill("/traced")
        page.keyboard.press("Enter")
        expect(page.locator("#spans tbody tr.leads")).to_have_count(3)
        page.locator("#spans tbody a").first.click()
        page.wait_for_url(f"**/#/trace/{TRACE}*")
        spans = page.locator(".waterfall .span")
        spans.nth(2).wait_for()
        assert [span.locator("b").inner_text() for span in spans.all()] == ["nginx", "nginx", site.name]
        bars = [bar.bounding_box() or {} for bar in page.locator(".waterfall .bar").all()]
        assert bars[0]["width"] > 100
        for outer, inner in pairwise(bars):
            assert inner["x"] >= outer["x"] - 2
            assert inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 4
        assert page.locator(".span.chosen").count() == 1, "where one came from"
        spans.first.click()
        shown = page.locator(".attributes:visible").first.inner_text()
        assert "/traced" in shown and PARENT in shown
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="Copy as JSON").click()
        page.get_by_text("copied").wait_for()
        copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
        assert copied["traceId"] == TRACE and len(copied["spans"]) == 3

    def test_a_tail_that_can_be_paused(self, window: Window, site: Site) -> None:
        page = window.go("traces?service=nginx&kind=server&text=tail", "Traces")
        rows = page.locator("#spans tbody tr.leads")
        assert rows.count() == 0
        send_two(site)
        rows.nth(1).wait_for()
        page.keyboard.press("p")
        page.get_by_role("button", name="Paused").wait_for()
        send_two(site)
        wait_for(lambda: len(site.ask("spans?text=tail&kind=server&service=nginx")["spans"]) == 4)
        page.wait_for_timeout(1500)
        assert rows.count() == 2
        page.keyboard.press("p")
        rows.nth(3).wait_for()
        assert rows.count() == 4

    def test_agent(self, window: Window, site: Site) -> None:
        page = window.go("agent", "Agent")

        def figures_of(name: str) -> dict[str, str]:
            """Of the process that has most to do."""
            return next(row for row in window.rows("Processes") if row["Service"] == name)

        tiles = window.tiles()
        assert number(tiles["Requests"]) >= sum(site.sent.values()) + 2 * sum(site.passed.values())
        assert tiles["Lost"] == "0"
        assert {row["Service"] for row in window.rows("Processes")} == {"nginx", site.name}
        busy = page.locator("tr", has_text="sys_exit")
        busy.wait_for()

        def is_counted() -> bool:
            send_two(site)
            return figures_of("nginx")["System calls/s"][:1] in tuple("123456789")

        wait_for(is_counted)
        nginx = figures_of("nginx")
        assert 0 <= percent(nginx["Probes take"]) < 0.5 and nginx["Hits on functions/s"] == "0"
        assert busy.locator("td", has_text=" ns").count() == 1, "the kernel tells what a run takes"
        assert page.get_by_text(f"--port {site.front.port}").count()
        page.get_by_role("button", name="Check this host").click()
        page.locator(".findings li").first.wait_for(timeout=60_000)
        assert page.locator(".findings .chip.bad").count() == 0

    def test_keys(self, window: Window, site: Site) -> None:
        page = window.go("services", "Services")
        for key, title in (("2", "Map"), ("3", "Traces"), ("4", "Agent"), ("1", "Services")):
            page.keyboard.press(key)
            page.locator(f"main[data-filled='{title}']").wait_for()
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url("**/#/service/*")
        page.keyboard.press("Backspace")
        page.wait_for_url("**/#/services")
        page.locator("main[data-filled='Services'] input").wait_for()
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.type") == "search"
        page.keyboard.press("Escape")
        page.keyboard.press("t")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        page.reload()
        assert page.evaluate("document.documentElement.dataset.theme") == "dark", "it is remembered"
        page.locator("main[data-filled]").wait_for()
        page.keyboard.press("?")
        assert page.locator("dialog[open]").count() == 1

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_for_everybody(self, browser: Browser, site: Site, scheme: str) -> None:
        """Nothing that axe finds fault with, on any page."""
        with browsers.window(browser, site.address, DESK, scheme) as window:
            for route in PAGES:
                window.go(route).wait_for_timeout(300)
                assert window.inaccessible() == [], route
            assert window.complaints == []

    def test_on_a_phone(self, browser: Browser, site: Site) -> None:
        """Nothing is wider than the screen."""
        with browsers.window(browser, site.address, PHONE) as window:
            for route in PAGES:
                window.go(route).wait_for_timeout(300)
                assert window.page.evaluate("document.scrollingElement.scrollWidth") <= PHONE["width"], route
            assert window.complaints == []

    def test_the_agent_ends_while_it_is_looked_at(self, browser: Browser, agent: Callable[..., Agent]) -> None:
        other = agent("--pid", os.getpid(), "--ui", "127.0.0.1:0", exports=("ui",))
        with browsers.window(browser, other.page) as window:
            page = window.go("traces", "Traces")
            other.stop()
            page.get_by_text("The agent does not answer").wait_for()


@pytest.fixture(scope="module")
def many() -> Iterator[Many]:
    many = Many()
    yield many
    many.end()


@pytest.fixture(scope="module")
def running(many: Many, tmp_path_factory: pytest.TempPathFactory, module_agent: Callable[..., Agent]) -> Agent:
    """The agent that watches all of them, after some requests."""
    file = tmp_path_factory.mktemp("many") / "config.yaml"
    file.write_text(many.configuration())
    agent = module_agent("--config", file, "--ui", "127.0.0.1:0", exports=("ui",))
    for _ in range(REQUESTS):
        many.request()
    return agent


class TestMany:
    """Sixty services, which pass nothing on: who calls whom, and what belongs together, is for the agent to see."""

    def test_the_map(self, browser: Browser, many: Many, running: Agent) -> None:
        """All of it is on the screen, nothing lies upon anything else, and each edge is a call that was made."""
        with browsers.window(browser, running.page, {"width": 1440, "height": 1000}) as window:
            page = window.go("map", "Map")
            wanted = many.calls(REQUESTS) | {("outside", many.services[0].name): REQUESTS}
            edges = page.locator("svg.map path.edge")
            expect(edges).to_have_count(len(wanted), timeout=1000 * SETTLED)
            wait_for(
                lambda: {(row["From"], row["To"]): number(row["Requests"]) for row in window.rows("Calls")} == wanted
            )
            page.keyboard.press("p")
            boxes, (frame,), names = (
                boxes_of(page, what) for what in ("svg.map .node rect", ".frame", "svg.map .label")
            )
            assert len(boxes) == len(many.services) + 1
            for place, box in enumerate(boxes):
                assert box["y"] >= frame["y"] and box["y"] + box["height"] <= frame["y"] + frame["height"]
                assert box["x"] >= frame["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"]
                assert not any(overlap(box, other) for other in boxes[:place])
            assert min(one["height"] for one in names) >= 9, "large enough to be read"
            page.locator("svg.map a", has_text=re.compile("^gateway")).hover()
            expect(page.locator("svg.map .edge.near")).to_have_count(len(many.services[0].calls) + 1)
            assert window.complaints == []

    def test_a_trace(self, browser: Browser, many: Many, running: Agent) -> None:
        """Of one request: each call below the request that it was made for, and its server below the call."""
        with browsers.window(browser, running.page) as window:
            page = window.go("traces?service=gateway&kind=server", "Traces")
            page.locator("#spans tbody a").first.click()
            spans = page.locator(".waterfall .span")
            expect(spans).to_have_count(1 + 2 * sum(many.calls(1).values()))
            found: Counter[tuple[str, str]] = Counter()
            above: list[str] = []  # of the span at hand
            for depth, service, name in page.evaluate(
                """[...document.querySelectorAll(".waterfall .span")].map(one =>
                [+one.dataset.depth, one.querySelector("b").textContent, one.querySelector(".name").textContent])"""
            ):
                del above[depth:]
                assert len(above) == depth
                if depth % 2:
                    assert service == above[-1] and "→ " in name
                    found[service, name.partition("→ ")[2]] += 1
                elif depth:
                    assert service != above[-1]
                above.append(service)
            assert found == many.calls(1)
            assert window.complaints == []


def boxes_of(page: Page, what: str) -> list[dict[str, float]]:
    """Where they are on the screen, all at one time."""
    script = "what => [...document.querySelectorAll(what)].map(one => one.getBoundingClientRect().toJSON())"
    found: list[dict[str, float]] = page.evaluate(script, what)
    return found


def overlap(a: dict[str, float], b: dict[str, float]) -> bool:
    return (
        a["x"] < b["x"] + b["width"] and b["x"] < a["x"] + a["width"]
        and a["y"] < b["y"] + b["height"] and b["y"] < a["y"] + a["height"]
    )  # fmt: skip


def test_a_restart_goes_on(site: Site, agent: Callable[..., Agent], tmp_path: Path) -> None:
    """With what was kept on disk, also after a kill."""
    told = []
    for ending in ("kill", "stop"):
        one = agent("--port", site.front.port, "--ui", "127.0.0.1:0", "--ui-store", tmp_path, exports=("ui",))
        here = replace(site, agent=one, address=one.page)
        if told:
            kept = here.ask("spans?service=nginx&kind=server&text=kept")["spans"]
            assert [span["spanId"] for span in kept] == told
            counts = [row["count"] for row in here.ask("service?name=nginx")["routes"] if row["kind"] == "server"]
            assert sum(counts) == len(told)
        else:
            for count in range(7):
                site.request(f"{BY_NGINX}kept-{count}")
                site.sent[200] += 1
            wait_for(lambda: len(here.ask("spans?service=nginx&kind=server")["spans"]) == 7)  # noqa: B023
            told = [span["spanId"] for span in here.ask("spans?service=nginx&kind=server")["spans"]]
            wait_for(lambda: all([*tmp_path.glob(f"{kind}-*")] for kind in ("spans", "fine")))
        getattr(one, ending)()


def send_two(site: Site) -> None:
    for count in range(2):
        site.request(f"{BY_NGINX}tail-{count}")
        site.sent[200] += 1


def pixels(window: Window, canvas: str) -> int:
    """Those that are not empty."""
    data = "one.getContext('2d').getImageData(0, 0, one.width, one.height).data"
    found: int = window.page.locator(canvas).evaluate(f"one => {data}.filter((v, i) => i % 4 === 3 && v).length")
    return found


def top(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, "top", *arguments], capture_output=True, text=True, check=False, timeout=90)


class TestTop:
    def test_once_as_json(self, site: Site) -> None:
        wait_until_told(site)
        done = top(site.address, "--once", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        told = {one["name"]: one for one in json.loads(done.stdout)["services"]}
        assert {name: one["count"] for name, one in told.items()} == {
            "nginx": sum(site.sent.values()),
            site.name: sum(site.passed.values()),
        }
        assert told["nginx"]["errors"] == failed(site.sent)
        one = json.loads(top(site.address, "--once", "--json", "--service", "nginx").stdout)
        assert {int(row["status"]): row["count"] for row in one["statuses"]} == dict(site.sent)

    def test_once_as_a_table(self, site: Site) -> None:
        lines = top(site.address, "--once").stdout.splitlines()
        assert lines[0].split()[:2] == ["SERVICE", "REQ/Sv"]
        assert {line.split()[0] for line in lines[2:]} == {"nginx", site.name}

    def test_nobody_answers(self) -> None:
        done = top("127.0.0.1:9", "--once")
        assert done.returncode == 1 and "no agent answers at http://127.0.0.1:9/" in done.stderr
        assert top("127.0.0.1:9").returncode == 2, "a pipe is no terminal"

    def test_live(self, site: Site) -> None:
        with Terminal(PROGRAM, "top", site.address) as terminal:
            for text in ("REQ/Sv", "nginx", site.name, "HTTP/1.1", "q: quit"):
                terminal.wait(text)
            terminal.press("s")
            terminal.wait("ERRORSv")
            terminal.press("/", *"ngin", "\r")
            terminal.wait("filter: ngin")
            assert site.name not in terminal.text
            terminal.press("\r")
            terminal.wait(f"GET -> {site.name}")
            terminal.press("t")
            terminal.wait("TOOK")
            site.request(f"{BY_NGINX}seen-in-top")
            site.sent[200] += 1
            terminal.press("/", *"seen-in-top", "\r")
            terminal.wait("filter: seen-in-top")
            terminal.wait("GET /s/200/")
            assert terminal.text.count("GET") == 1, "it is one of the requests that are shown"
            terminal.press("\x1b")
            terminal.press("\x1b", "\x1b")
            terminal.wait(site.name)
            terminal.press("q")
            assert terminal.end() == 0

    def test_with_an_agent_of_its_own(self, site: Site) -> None:
        done = top("--port", str(site.front.port), "--once", "--json")
        assert done.returncode == 0, done.stderr
        assert [one["name"] for one in json.loads(done.stdout)["services"]] == ["nginx"]
