"""The demo's checks against its own targets, and the table that shows their results."""

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from peekaping_producer.demo.breakage import Breakage, Event, Restart
from peekaping_producer.demo.checks import Status, http_client, run_check
from peekaping_producer.demo.history import History
from peekaping_producer.demo.judgement import Incidents
from peekaping_producer.demo.ledger import Finished, Taken
from peekaping_producer.demo.payload import Check, LastHeartbeat
from peekaping_producer.demo.sample import sample_monitors
from peekaping_producer.demo.table import ROWS, State, render
from peekaping_producer.demo.targets import Targets, targets

NOW_MS = 1_700_000_000_500


@pytest.mark.parametrize(
    ("kind", "config", "status", "text"),
    [
        ("http", '{{"url": "{healthy}"}}', Status.UP, "200 OK"),
        ("http", '{{"url": "{broken}"}}', Status.DOWN, "500"),
        ("http", '{{"url": "{hanging}"}}', Status.DOWN, "no answer within 1 s"),
        ("http", '{{"url": "http://127.0.0.1:{refused}/"}}', Status.DOWN, "All connection attempts failed"),
        ("tcp", '{{"host": "127.0.0.1", "port": {tcp}}}', Status.UP, "connected"),
        ("tcp", '{{"host": "127.0.0.1", "port": {refused}}}', Status.DOWN, "Connection refused"),
    ],
)
async def test_a_check_says_whether_its_target_answers(kind: str, config: str, status: Status, text: str) -> None:
    timeout_s = 1 if "hanging" in config else 10
    async with targets(10) as at, http_client() as client:
        urls = {page: at.url(f"/{page}") for page in ("healthy", "broken", "hanging")}
        config = config.format(tcp=at.tcp_port, refused=at.refused_port, **urls)
        verdict = await run_check(Check(monitor_type=kind, timeout=timeout_s, config=config), client)
    assert verdict.status is status
    assert text in verdict.text


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (None, Status.DOWN),
        (LastHeartbeat(Status.UP, datetime.now(UTC)), Status.UP),
        (LastHeartbeat(Status.DOWN, datetime.now(UTC)), Status.DOWN),
        (LastHeartbeat(Status.UP, datetime.now(UTC) - timedelta(days=1)), Status.DOWN),
    ],
)
async def test_a_push_monitor_is_judged_by_its_last_push(last: LastHeartbeat | None, status: Status) -> None:
    async with http_client() as client:
        verdict = await run_check(Check(monitor_type="push", interval=3600, last_heartbeat=last), client)
    assert verdict.status is status


async def test_a_monitor_under_maintenance_is_not_tried_and_an_unknown_type_is_an_error() -> None:
    async with http_client() as client:
        verdict = await run_check(Check(monitor_type="http", is_under_maintenance=True), client)
        assert verdict.status is Status.MAINTENANCE
        with pytest.raises(ValueError, match="no executor for monitor type 'dns'"):
            await run_check(Check(monitor_type="dns", timeout=1), client)


def test_the_table_shows_the_last_results_the_totals_and_what_was_broken() -> None:
    monitors = sample_monitors(Targets(1, 2, 3), 5, ROWS + 3)
    up, down = monitors[0].id, monitors[1].id
    history = History(monitors)
    history.add(Taken(id_, NOW_MS, NOW_MS) for id_ in (up, down))
    finished_ms = NOW_MS + 20
    history.add(
        [Finished(up, NOW_MS, finished_ms, "up", 12, "200 OK"), Finished(down, NOW_MS, finished_ms, "down", 0, "500")]
    )
    totals = history.totals(NOW_MS - 60_000, NOW_MS + 1000, Incidents())
    events = [Event(NOW_MS - 5, 3.0, Breakage.FLUSH, (up,))]
    state = State(NOW_MS, 9.0, {up: NOW_MS + 2500}, totals, 4, 1, 2, events, [Restart(5.0, "producer started again")])
    console = Console(width=160)
    with console.capture() as shown:
        console.print(render(monitors, history, state))
    text = shown.get()
    parts = ["UP 12 ms  200 OK", "DOWN  500", "2.5 s", "… and 3 more", "4 pending, 1 active; 2 nodes"]
    for part in [*parts, "1 of 1 monitors", "producer started"]:
        assert part in text
