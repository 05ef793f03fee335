"""The page in headless Chromium: one browser and one fleet for all tests here."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from redis import Redis

from peekaping_producer.demo.child import Child
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.demo.worker import WorkerOptions
from peekaping_producer.leader.event_message import DELETED
from peekaping_producer.redisdb.keys import LEASE, NODE, NODES
from support.api_events import row_message
from support.browser import Browser, browser
from support.databases import monitor_row, sqlite_copy
from support.programs import needed
from support.server_process import free_port

pytestmark = pytest.mark.long

INTERVAL_S = 20
"""A check that is late by half of it is missed, and the page is not green for minutes."""
TOKEN = "a-token-of-these-tests"
HOSTILE = "<script>alert(1)</script>"
LONG_NAME = "a-very-long-name-without-any-space-" * 4


class Stage:
    """A fleet of one node and a worker, which shows its page."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.server = stack.enter_context(RedisServer(tcp=True))
        self.redis = stack.enter_context(Redis(host=HOST, port=self.server.port))
        self.database = sqlite_copy(folder, rows=False)
        self.ids = [self.add(name) for name in (HOSTILE, LONG_NAME, "Shop")]
        self.folder, self._stack = folder, stack
        options = WorkerOptions(self.server.port, str(self.database.path), str(folder / "worker.ledger"), instant=True)
        encoded = msgspec.json.encode(options).decode()
        worker = Child(["-m", "peekaping_producer.demo.worker", encoded], folder, "worker.log", {})
        stack.callback(worker.stop)
        self.url = f"http://{HOST}:{self.start_node()[1]}"

    def start_node(self) -> tuple[Child, int]:
        """Start a node; return it, and its port."""
        port = free_port()
        variables = {
            "DB_TYPE": "sqlite",
            "DB_NAME": str(self.database.path),
            "REDIS_HOST": HOST,
            "REDIS_PORT": str(self.server.port),
            "PRODUCER_HTTP_PORT": str(port),
            "PRODUCER_HTTP_TOKEN": TOKEN,
            "PRODUCER_CONCURRENCY": "2",
            "MODE": "prod",
        }
        node = Child(["-m", "peekaping_producer", "run"], self.folder, f"node-{port}.log", variables)
        self._stack.callback(node.stop)
        return node, port

    def add(self, name: str, interval_s: int = INTERVAL_S) -> str:
        """Add a monitor; return its id."""
        row = monitor_row(name=name, interval=interval_s, timeout=1)
        asyncio.run(self.database.insert("monitors", row))
        return str(row["id"])

    def remove(self, id_: str) -> None:
        asyncio.run(self.database.delete("monitors", id_))
        assert self.redis.publish(DELETED, row_message("monitor.deleted", id_))

    def kill_while_it_has_no_claim(self, node: Child) -> None:
        """Kill a node so that no check is missed, which the page would show for long."""
        while True:
            os.kill(node.pid, signal.SIGSTOP)
            give_up_s = time.monotonic() + 1
            while self.redis.zcard(LEASE) and time.monotonic() < give_up_s:
                time.sleep(0.01)
            if not self.redis.zcard(LEASE):
                node.kill()
                return
            os.kill(node.pid, signal.SIGCONT)

    def forget_gone(self, pid: int) -> None:
        """Remove the record of a node that was killed."""
        for name in self.redis.zrange(NODES, 0, -1):
            if f"-{pid}-".encode() in name:
                self.redis.zrem(NODES, name)
                self.redis.delete(NODE.encode() + name)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Start the fleet."""
    with ExitStack() as stack:
        yield Stage(tmp_path_factory.mktemp("stage"), stack)


@pytest.fixture(scope="module")
def _tab(stage: Stage) -> Iterator[Browser]:
    """Start the browser, and wait until the page is there and green."""
    for program in ("chromium", "chromedriver"):
        needed(program)
    with browser() as tab:
        tab.become()
        tab.until_open(stage.url)
        tab.complaints()
        yield tab


@pytest.fixture
def tab(_tab: Browser, stage: Stage) -> Iterator[Browser]:
    """Return the browser with the page open; its console says nothing, as it would if the policy were broken."""
    _tab.become()
    _tab.open(stage.url)
    _tab.until_shown("Live", "#live")
    yield _tab
    assert _tab.complaints() == []


def headline_level(tab: Browser) -> str:
    return str(tab.run("return document.getElementById('sentence').className"))


def test_it_opens_green_and_shows_new_and_deleted_monitors_live(tab: Browser, stage: Stage) -> None:
    tab.until_shown("All 3 checks run on time", "#sentence")
    assert headline_level(tab) == "ok"
    tab.until_shown("Shop", "[data-part=next]")
    tab.run("window.stays = true")
    added = stage.add("Added later")
    tab.until_shown("All 4 checks run on time", "#sentence")
    tab.until_shown("Added later", "[data-part=next]")
    stage.remove(added)
    tab.until_shown("All 3 checks run on time", "#sentence")
    tab.until(lambda: "Added later" not in tab.text(), "the deleted monitor leaves")
    assert tab.run("return window.stays")
    assert "All 3 checks run on time" in tab.driver.title


def test_a_name_is_shown_as_it_is_and_never_run(tab: Browser) -> None:
    tab.until_shown(HOSTILE, "[data-part=next]")
    assert tab.run("return document.querySelectorAll('main script').length") == 0


def test_a_killed_node_is_shown_as_gone(tab: Browser, stage: Stage) -> None:
    node, _port = stage.start_node()
    mine = f"-{node.pid}-"
    tab.until(lambda: f"{mine}" in tab.text("[data-part=fleet]"), "the node is shown")
    tab.until(lambda: "gone" not in tab.text("[data-part=fleet]"), "nobody is gone")
    stage.kill_while_it_has_no_claim(node)
    tab.until_shown("A node is gone; checks go on")
    assert "gone" in tab.text("[data-part=fleet]")
    assert headline_level(tab) == "attention"
    assert "A node is gone" in tab.text("#announced")
    stage.forget_gone(node.pid)
    tab.until(lambda: mine not in tab.text("[data-part=fleet]"), "the node is forgotten")


def test_run_now_runs(tab: Browser, stage: Stage) -> None:
    seldom = stage.add("Seldom", interval_s=3600)
    try:
        tab.until_shown("All 4 checks run on time", "#sentence")
        page = f"{stage.url}/monitors/{seldom}"
        before = _results(tab, page)
        tab.element("input[name=token]").send_keys(TOKEN)
        tab.element("form.actions button").click()
        tab.until_shown("The check is due now.")
        assert tab.driver.current_url.startswith(page)
        tab.until(lambda: _results(tab, page) > before, "the result of its check")
    finally:
        stage.remove(seldom)


def _results(tab: Browser, page: str) -> int:
    tab.open(page)
    return int(tab.run("return document.querySelectorAll('tbody tr').length"))


def test_all_checks_are_paused_and_resumed(tab: Browser) -> None:
    tab.until_shown("checks run on time", "#sentence")
    tab.element("details.actions summary").click()
    tab.element("form[action='/actions/pause'] input[name=reason]").send_keys("upgrade <b>now</b>")
    tab.element("form[action='/actions/pause'] input[name=token]").send_keys(TOKEN)
    tab.element("form[action='/actions/pause'] button").click()
    tab.until_shown("All checks are paused until", "#sentence")
    tab.until_shown("Upgrade <b>now</b>", ".problems")
    assert headline_level(tab) == "attention"
    tab.element("details.actions summary").click()
    tab.element("form[action='/actions/resume'] input[name=token]").send_keys(TOKEN)
    tab.element("form[action='/actions/resume'] button").click()
    tab.until_shown("Checks have resumed.")
    tab.until_shown("checks run on time", "#sentence")


def test_the_last_hour_and_the_next_minute_are_drawn(tab: Browser) -> None:
    tab.until(lambda: tab.run("return document.querySelectorAll('.uplot canvas').length") == 2, "both plots")
    tab.until(lambda: tab.run("return document.querySelectorAll('.dial .bar').length") > 0, "the dial")
    tab.until(lambda: "0.0" not in tab.text("[data-part=rates]").split("\n")[1], "checks per second")
    drawn = (
        "return [...document.querySelectorAll('.uplot canvas')].every((canvas) => "
        "canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value))"
    )
    assert tab.run(drawn)


def test_the_keyboard_reaches_everything_and_keeps_its_place(tab: Browser) -> None:
    tab.until_shown("Shop", "[data-part=next]")
    first = "document.querySelector('a, button, input')"
    assert tab.run(f"return {first}.className") == "skip"
    tab.run("document.querySelector('[data-part=trouble]').insertAdjacentHTML('beforeend', '<a href=\"#main\">x</a>')")
    link = "[data-part=next] a"
    target = tab.run(f"const one = document.querySelector('{link}'); one.focus(); return one.getAttribute('href')")
    before = tab.text("[data-part=next]")
    tab.until(lambda: tab.text("[data-part=next]") != before, "the list is updated")
    focused = tab.run("return document.activeElement.getAttribute('href')")
    there = tab.run('return !!document.querySelector(`[data-part=next] a[href="${arguments[0]}"]`)', target)
    assert focused == target or not there


@pytest.mark.parametrize("path", ["/", "/monitors?q=a", "/monitors/{id}"])
def test_nothing_is_wider_than_a_small_phone(tab: Browser, stage: Stage, path: str) -> None:
    tab.become(width=360, height=740)
    tab.open(stage.url + path.format(id=stage.ids[1]))
    tab.until_shown("Served by")
    assert tab.run("return document.documentElement.scrollWidth") <= 360
    wide = "return [...document.querySelectorAll('main *')].filter((one) => one.getBoundingClientRect().right > 361)"
    assert tab.run(f"{wide}.map((one) => one.outerHTML.slice(0, 200))") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_are_accessible(tab: Browser, stage: Stage, scheme: str) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    tab.become(scheme="dark" if scheme == "light" else "light")
    other = tab.run(ground)
    tab.become(scheme=scheme)
    assert tab.run(ground) != other
    tab.run("document.querySelector('main').append(document.createElement('button'))")
    assert [issue.partition(":")[0] for issue in tab.serious_issues()] == ["button-name"]
    for path in ("/", "/monitors?q=a", f"/monitors/{stage.ids[2]}"):
        tab.open(stage.url + path)
        tab.until_shown("Served by")
        tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true })")
        assert tab.serious_issues() == []


def test_it_is_complete_without_javascript(tab: Browser, stage: Stage) -> None:
    tab.until_shown("All 3 checks run on time", "#sentence")
    tab.become(scripts=False)
    tab.open(stage.url)
    shown = tab.element("body").text
    for words in ("All 3 checks run on time", "leads", "Workers", "Shop", "in the busiest second"):
        assert words in shown, words
    assert "Live" not in shown
    tab.element("input[type=search]").send_keys("sho\n")
    tab.until(lambda: "q=sho" in tab.driver.current_url, "the search is sent")
    tab.until(lambda: "Shop" in tab.element("main").text, "the monitor is found")
    tab.element(f"a[href='/monitors/{stage.ids[2]}']").click()
    tab.until(lambda: stage.ids[2] in tab.driver.current_url, "its page is opened")
    assert "It is checked." in tab.element("main").text


def test_a_page_whose_node_has_ended_says_so_and_is_live_again(tab: Browser, stage: Stage) -> None:
    node, port = stage.start_node()
    tab.until_open(f"http://{HOST}:{port}")
    tab.until_shown("Live", "#live")
    node.stop()
    tab.until_shown("Not live", "#live")
    tab.complaints()  # the connection was refused
    tab.open(stage.url)
    tab.until_shown("Live", "#live")
    tab.complaints()
