"""`pause` and `resume`: every node stops claiming, every command says so, and checks resume by themselves."""

import asyncio
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.fleet.registry import NodeInfo, Registry
from peekaping_producer.redisdb.keys import DUE, LEADER, PAUSE
from peekaping_producer.schedule.pause import Pause
from peekaping_producer.schedule.view import ScheduleView
from peekaping_producer.timing import Timing
from support.databases import SqliteDatabase, monitor_row
from support.fleet import Fleet, fleet
from support.nodes import connected
from support.redis_time import redis_now_ms, until_ms
from support.shell import MONITOR, Shell, addressed, free_port, put_worker
from support.task_consumer import Consumed, consuming
from support.waiting import until

REASON = "a new database"
PERIOD_S = 2
PAUSED, RESUMED = "checks paused", "checks resumed"
CAUGHT_UP_MS = 5_000
"""Far longer than it takes on an idle machine."""


@pytest.fixture
def shell(tmp_path: Path, empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis) -> Shell:
    folder = tmp_path / "empty"
    folder.mkdir()
    return Shell(folder, **addressed(empty_sqlite_db, redis_server))


# --- the commands


async def test_a_pause_is_shown_by_every_command_until_it_is_ended(
    shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    await empty_sqlite_db.insert("monitors", monitor_row(id=MONITOR, name="Shop", interval=60))
    await Registry(redis, Timing()).register(NodeInfo("host-1-na0", leader=True))
    await redis.set(LEADER, "host-1-na0")
    await put_worker(redis)
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) - 5_000})

    printed = await shell.output("pause", "--for", "10m", "--reason", REASON)
    assert printed.startswith("checks are paused until ")
    assert " (10 min left) by " in printed
    assert printed.endswith(f", because: {REASON}\n")
    until_ = printed.split()[4]

    line = f"checks are paused until {until_} (10 min left) by "
    lines = (await shell.output("status", code=1)).splitlines()
    assert lines[0].startswith(f"trouble    {line}")
    assert not any("overdue, the longest" in one for one in lines[:2])
    status = json.loads(await shell.output("status", "--json", code=1))
    assert (status["pause"]["until"], status["pause"]["reason"]) == (until_, REASON)
    assert 0 < status["pause"]["left_s"] <= 600
    assert status["trouble"][0].startswith(line)
    one_line = await shell.output("status", "--check", code=1)
    assert one_line.startswith(f"PEEKAPING WARNING: {line}")

    answer = await shell.explained(code=1)
    assert f"; active, but {line}" in answer["monitor"]
    assert answer["schedule"].endswith(" ago; it waits for the end of the pause")
    assert "next slots" not in answer
    explanation = json.loads(await shell.output("explain", MONITOR, "--json", code=1))
    assert (explanation["verdict"], explanation["pause"]["until"]) == ("paused", until_)
    assert explanation["due"]
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) + 60_000})
    assert (await shell.explained(code=1))["schedule"].endswith("; it waits for the end of the pause")
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) + 3_600_000})
    assert (await shell.explained(code=1))["schedule"].startswith("due in 1 h, at ")

    checked = await shell.output("check")
    assert f"! deployment  {line}" in checked
    assert "`peekaping-producer resume`" in checked

    ran = (await shell.output("run-now", "Shop", code=1)).splitlines()
    assert ran[0].endswith(": due now")
    assert ran[1].startswith(line)
    assert ran[1].endswith("; what is due is checked when the pause ends")

    assert await shell.output("resume") == f"checks have resumed; the pause would have lasted until {until_}\n"
    assert await shell.output("resume") == "checks were not paused\n"
    assert json.loads(await shell.output("resume", "--json"))["ended"] is None
    assert json.loads(await shell.output("status", "--json"))["pause"] is None
    assert "+ deployment  checks are not paused" in (await shell.output("check")).replace("✓", "+")


async def test_a_monitor_that_was_overdue_before_the_pause_is_trouble_of_its_own(shell: Shell, redis: Redis) -> None:
    await Registry(redis, Timing()).register(NodeInfo("host-1-na0", leader=True))
    await redis.set(LEADER, "host-1-na0")
    await put_worker(redis)
    await shell.output("pause", "--reason", REASON)
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) - 60_000})
    first, second, *_ = (await shell.output("status", code=1)).splitlines()
    assert first.startswith("trouble    checks are paused until ")
    assert second.startswith("trouble    1 monitor is overdue, the longest for 1 min: ")
    assert (await shell.output("status", "--check", code=2)).startswith("PEEKAPING CRITICAL: ")


async def test_another_pause_replaces_the_first(shell: Shell, redis: Redis) -> None:
    first = json.loads(await shell.output("pause", "--for", "2h", "--reason", REASON, "--json"))
    second = json.loads(await shell.output("pause", "--for", "90s", "--reason", "shorter", "--json"))
    assert (first["replaced"], second["replaced"]["until"]) == (None, first["pause"]["until"])
    assert second["pause"]["since"] == first["pause"]["since"]
    third = (await shell.output("pause", "--reason", "longer")).splitlines()
    assert third[1] == f"this replaces a pause until {second['pause']['until']}"
    assert 590_000 < await redis.pttl(PAUSE) <= 600_000


async def test_a_go_producer_ignores_the_pause(shell: Shell, redis: Redis) -> None:
    await redis.set(LEADER, "producer-4711", px=60_000)
    lines = (await shell.output("pause", "--reason", REASON, code=1)).splitlines()
    assert lines[1:] == ["a Go producer runs too: it ignores the pause, and keeps checking"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ("--for", "25h", "--reason", "x"),
            "'25h' is not a valid length: write for example 90s, 10m or 2h, at most 24h",
        ),
        (
            ("--for", "soon", "--reason", "x"),
            "'soon' is not a valid length: write for example 90s, 10m or 2h, at most 24h",
        ),
        (("--reason", " "), "the reason must have 1 to 200 characters"),
        (("--reason", "x" * 201), "the reason must have 1 to 200 characters"),
    ],
)
async def test_what_cannot_be_a_pause_is_one_line(
    shell: Shell, redis: Redis, arguments: Sequence[str], problem: str
) -> None:
    ended = await shell.run("pause", *arguments)
    assert (ended.code, ended.out, ended.problems) == (2, "", [f"peekaping-producer: {problem}"])
    assert not await redis.exists(PAUSE)


async def test_a_pause_needs_a_reason(shell: Shell) -> None:
    ended = await shell.run("pause")
    assert (ended.code, ended.out) == (2, "")
    assert "--reason" in ended.err


@pytest.mark.parametrize("arguments", [("pause", "--reason", "x"), ("resume",)], ids=lambda arguments: arguments[0])
async def test_only_redis_is_needed_and_without_it_there_is_one_line(
    shell: Shell, redis_server: RedisServer, arguments: tuple[str, ...]
) -> None:
    alone = Shell(shell.folder, REDIS_PORT=redis_server.port)
    assert await alone.output(*arguments)
    with free_port() as port:
        ended = await alone.run(*arguments, REDIS_PORT=port)
    assert (ended.code, ended.out) == (1, "")
    (problem,) = ended.problems
    assert problem.startswith("peekaping-producer: redis: ")


# --- the fleet


@pytest.mark.long
async def test_three_nodes_stop_go_on_and_make_each_check_once(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path, shell: Shell
) -> None:
    """Judged by when tasks were claimed, by Redis' clock, whenever they were taken."""
    rows, port = [monitor_row(interval=PERIOD_S) for _ in range(60)], redis_server.port
    await empty_sqlite_db.insert("monitors", *rows)
    async with fleet(tmp_path, empty_sqlite_db, redis, port, worker=False) as nodes, consuming(redis) as tasks:
        await nodes.begin(rows)

        async def until_each_is_claimed(after_ms: float) -> float:
            await until(lambda: len(claims(tasks, after_ms)) == len(rows), "each is checked")
            return max(min(times_ms) for times_ms in claims(tasks, after_ms).values())

        await until_each_is_claimed(0)
        await shell.output("pause", "--for", "1h", "--reason", REASON)
        first = await pause_in(redis)
        await until_logged(nodes, PAUSED, 1)
        newcomer = await nodes.add()
        assert (await newcomer.until_logged(PAUSED))["reason"] == REASON
        await nodes.until_at_work(newcomer)
        await until_ms(redis, first.since_ms + PERIOD_S * 1_500)
        resumed_ms = await redis_now_ms(redis)
        await shell.output("resume")
        assert await until_each_is_claimed(first.since_ms) < await redis_now_ms(redis)
        assert not any(first.since_ms < ms < resumed_ms for times_ms in claims(tasks).values() for ms in times_ms)
        await until_logged(nodes, RESUMED, 1)
        assert all(node.logged(RESUMED)[0]["early"] for node in nodes.nodes)

        await shell.output("pause", "--for", "4s", "--reason", REASON)
        second = await pause_in(redis)
        await until_logged(nodes, RESUMED, 2)
        assert not await redis.exists(PAUSE)
        assert not any(node.logged(RESUMED)[1]["early"] for node in nodes.nodes)
        assert await until_each_is_claimed(second.since_ms) < second.until_ms + CAUGHT_UP_MS
        await until_ms(redis, second.until_ms + PERIOD_S * 2_000)
        await nodes.end()
        summaries = [line["checks"] for node in nodes.nodes for line in node.logged("summary")]
    within = [ms for times_ms in claims(tasks).values() for ms in times_ms if second.since_ms < ms < second.until_ms]
    assert (within, too_close(tasks)) == ([], [])
    assert any("missed_paused" in one for one in summaries)


async def pause_in(redis: Redis) -> Pause:
    """Return the pause that goes on."""
    pause = (await ScheduleView(redis, 10).place_of(MONITOR)).pause
    assert pause
    return pause


async def until_logged(nodes: Fleet, event: str, times: int) -> None:
    """Wait until every node has logged this."""
    await asyncio.gather(*(node.until_logged(event, times) for node in nodes.nodes))


def claims(tasks: Sequence[Consumed], after_ms: float = 0) -> dict[str, list[float]]:
    """Return when each monitor was claimed, after an instant."""
    found: dict[str, list[float]] = {}
    for task in tasks:
        if task.scheduled_ms > after_ms:
            found.setdefault(task.monitor_id, []).append(task.scheduled_ms)
    return found


def too_close(tasks: Sequence[Consumed]) -> list[tuple[str, float]]:
    """Return claims of a monitor that are closer than half its period."""
    return [
        (id_, later - earlier)
        for id_, times_ms in claims(tasks).items()
        for earlier, later in pairwise(sorted(times_ms))
        if later - earlier < PERIOD_S * 500
    ]


async def test_a_flushed_redis_has_lost_the_pause(
    empty_sqlite_db: SqliteDatabase, own_redis_server: RedisServer, tmp_path: Path
) -> None:
    rows = [monitor_row(interval=1)]
    await empty_sqlite_db.insert("monitors", *rows)
    port = own_redis_server.port
    shell = Shell(tmp_path, REDIS_PORT=port)
    async with connected(port) as redis, fleet(tmp_path, empty_sqlite_db, redis, port, nodes=1, worker=False) as nodes:
        await nodes.begin(rows)
        await shell.output("pause", "--reason", REASON)
        await until_logged(nodes, PAUSED, 1)
        await redis.flushall()
        await until_logged(nodes, RESUMED, 1)
        async with consuming(redis) as tasks:
            await until(lambda: tasks, "checks resume")
        assert nodes.nodes[0].logged(RESUMED)[0]["early"]
