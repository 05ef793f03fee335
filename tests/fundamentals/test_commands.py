"""What operators ask the fleet from a shell: `status`, `run-now`, `explain`.

Each says what it found in words, ends with 0, 1 (not done, not well) or 2 (wrong settings), and never with a traceback.
"""

import asyncio
import json
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.message import task_id
from peekaping_producer.clock import from_unix_ms, rfc3339
from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.fleet.invalid_monitors import InvalidMonitors
from peekaping_producer.fleet.registry import NodeInfo, Registry
from peekaping_producer.leader.sweep import Swept
from peekaping_producer.model.cadence import Spacing, cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.observe.history import Healed, Recent
from peekaping_producer.redisdb.keys import DUE, GO_SEEN, INVALID, LEADER, LEASE, NODES
from peekaping_producer.timing import Timing
from support.asynq_states import put_active, put_in_set, put_malformed, put_pending, score
from support.databases import (
    PostgresDatabase,
    SqliteDatabase,
    link_row,
    maintenance_row,
    monitor_row,
    new_id,
    proxy_row,
)
from support.nodes import connected
from support.postgres import SUPERUSER, Postgres
from support.producer import WITHIN_S, command, environment, run_to_the_end, started
from support.redis_time import redis_now_ms
from support.shell import MONITOR, SECRET, Shell, addressed, free_port, on_postgres, put_worker
from support.waiting import until

COMMANDS = [("status",), ("run-now", MONITOR), ("explain", MONITOR)]
NODE = NodeInfo(
    id="host-1-na0",
    version="1.2.3",
    started="2026-01-02T03:04:05Z",
    leader=True,
    concurrency=10,
    checks=12_345,
    lateness_p50_ms=3,
    lateness_p99_ms=70,
    database_problem=None,
    checks_from_cache=0,
    cache_age_s=0,
    swept=None,
)


@pytest.fixture
def shell(tmp_path: Path, empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis) -> Shell:
    folder = tmp_path / "empty"
    folder.mkdir()
    return Shell(folder, **addressed(empty_sqlite_db, redis_server))


def a_monitor(**values: Any) -> dict[str, Any]:
    return monitor_row(**{"id": MONITOR, "name": "Shop", "interval": 60, "timeout": 16, **values})


# --- status


NOT_RUNNING = "no producer is running: no monitor is checked"
LEADERLESS = "no node leads: new monitors are not scheduled, deleted ones not removed"
NO_WORKER = "no worker takes checks from the queue"


async def test_status_of_an_empty_redis(shell: Shell) -> None:
    text = await shell.output("status", code=1)
    lines = text.splitlines()
    assert lines[:2] == [NOT_RUNNING, f"trouble    {NO_WORKER}"]
    assert "leader     none" in lines
    assert "schedule   empty" in lines
    assert "slots      with PRODUCER_SCHEDULE=auto: spread" in lines
    assert "nodes      none" in lines
    assert "0 pending, 0 running, 0 worker processes" in text


async def test_status_when_all_is_well(shell: Shell, redis: Redis) -> None:
    await Registry(redis, Timing()).register(NODE)
    await redis.set(LEADER, NODE.id)
    await put_worker(redis)
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) + 3_600_000})
    lines = (await shell.output("status")).splitlines()
    assert lines[:2] == [f"leader     {NODE.id}", "schedule   1 monitor, 0 being handled; none overdue"]
    status = json.loads(await shell.output("status", "--json"))
    assert (status["running"], status["trouble"]) == (True, [])
    assert status["overdue"] == {"count": 0, "longest_ms": 0, "monitors": []}


async def checked(shell: Shell, **others: Any) -> tuple[int, str]:
    """Return the exit code of `status --check`, and its only line."""
    ended = await shell.run("status", "--check", **others)
    (line,) = ended.out.splitlines()
    assert ended.err == ""
    return ended.code, line


async def test_a_monitoring_system_gets_one_line(shell: Shell, redis: Redis) -> None:
    code, line = await checked(shell)
    assert (code, line.partition(":")[0]) == (2, "PEEKAPING CRITICAL")
    assert NOT_RUNNING in line
    await Registry(redis, Timing()).register(NODE)
    await redis.set(LEADER, NODE.id)
    code, line = await checked(shell)
    assert (code, line.partition(" | ")[0]) == (2, f"PEEKAPING CRITICAL: {NO_WORKER}")
    await put_worker(redis)
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) + 3_600_000})
    figures = "monitors=1 overdue=0 invalid=0 pending=0 workers=1 producers=1"
    assert await checked(shell) == (0, f"PEEKAPING OK: 1 monitor, 1 producer, 1 worker process | {figures}")
    await InvalidMonitors(redis, Timing()).note({new_id(): "interval is 0 s: must be at least 1 s"})
    code, line = await checked(shell)
    assert (code, line.partition(":")[0]) == (1, "PEEKAPING WARNING")
    assert line.count("|") == 1
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) - 3_600_000})
    code, line = await checked(shell)
    assert (code, line.split(" are overdue")[0].split(" is overdue")[0]) == (2, "PEEKAPING CRITICAL: 1 monitor")


async def test_a_monitoring_system_is_also_informed_of_what_keeps_the_status_unknown(shell: Shell) -> None:
    with free_port() as port:
        code, line = await checked(shell, REDIS_PORT=port, REDIS_PASSWORD=SECRET)
    assert (code, line.startswith("PEEKAPING CRITICAL: redis: ")) == (2, True)
    code, line = await checked(shell, REDIS_DB="x", REDIS_PORT="y")
    assert code == 2
    assert re.fullmatch(r"PEEKAPING CRITICAL: REDIS_PORT is 'y': [^;]*; REDIS_DB is 'x': [^;]*", line)


@pytest.mark.parametrize("other", ["--json", "--watch"])
async def test_one_line_is_not_for_programs_or_screens(shell: Shell, other: str) -> None:
    ended = await shell.run("status", "--check", other)
    assert (ended.code, ended.out) == (2, "")


async def test_status_with_no_producer_says_so_first_and_then_what_is_overdue(
    shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    shop, blog = a_monitor(), monitor_row(name="Größe \x1b")
    await empty_sqlite_db.insert("monitors", shop, blog)
    await put_worker(redis)
    now_ms = await redis_now_ms(redis)
    others = [new_id() for _ in range(1_200)]
    await redis.zadd(DUE, dict.fromkeys(others, now_ms - 60000) | {MONITOR: now_ms - 7_200_000})
    await redis.zadd(LEASE, {blog["id"]: now_ms - 3_600_000})
    ended = await shell.run("status")
    assert (ended.code, ended.err) == (1, "")
    first, second, third, *_ = ended.out.splitlines()
    assert (first, third) == (NOT_RUNNING, "")
    assert second.startswith("trouble    1,202 monitors are overdue, the longest for 2 h: 'Shop', 'Größe \\x1b', ")
    assert second.endswith(" and 1,197 more")
    assert "due, but not checked" in ended.out

    status = json.loads(await shell.output("status", "--json", code=1))
    assert (status["running"], status["trouble"][0]) == (False, NOT_RUNNING)
    assert (status["overdue"]["count"], len(status["overdue"]["monitors"])) == (1_202, 5)
    assert status["overdue"]["longest_ms"] >= 7_200_000
    assert [one["name"] for one in status["overdue"]["monitors"][:3]] == ["Shop", "Größe \x1b", None]


async def test_status_of_a_running_fleet_counts_as_overdue_what_is_so_for_ten_seconds(
    shell: Shell, redis: Redis
) -> None:
    await Registry(redis, Timing()).register(NODE)
    await redis.set(LEADER, NODE.id)
    await put_worker(redis)
    now_ms = await redis_now_ms(redis)
    await redis.zadd(DUE, {MONITOR: now_ms + 3_600_000, new_id(): now_ms - 60_000})
    lines = (await shell.output("status", code=1)).splitlines()
    assert lines[0].startswith("trouble    1 monitor is overdue, the longest for 1 min: ")


async def test_status_shows_the_fleet_the_schedule_and_the_queue(shell: Shell, redis: Redis) -> None:
    registry = Registry(redis, Timing())
    await registry.register(NODE)
    await registry.register(replace(NODE, id="host-2-nb1", leader=False, database_problem="no answer within 2 s"))
    await redis.set(LEADER, NODE.id)
    now_ms = await redis_now_ms(redis)
    overdue, later = MonitorId(new_id()), MonitorId(new_id())
    await redis.zadd(DUE, {overdue: now_ms - 7_200_000, later: now_ms + 3_600_000})
    await redis.zadd(LEASE, {MONITOR: now_ms + 3_600_000})
    await put_in_set(redis, MONITOR, "archived")
    await put_pending(redis, overdue)
    await redis.set(keys.PAUSED, 1)

    text = await shell.output("status", code=1)
    lines = text.splitlines()
    assert lines[:3] == [
        f"trouble    1 monitor is overdue, the longest for 2 h: {overdue}",
        "trouble    host-2-nb1: database unavailable, no answer within 2 s",
        "trouble    the queue is paused: checks wait until it is resumed",
    ]
    assert f"leader     {NODE.id}" in lines
    assert "schedule   3 monitors, 1 being handled; the longest overdue for 2 h" in lines
    (leader,) = [re.split(r"  +", line) for line in lines if line.startswith(NODE.id)]
    (follower,) = [re.split(r"  +", line) for line in lines if line.startswith("host-2-nb1")]
    assert leader[:2] == [NODE.id, "alive"]
    assert leader[2].endswith(" ago")
    assert leader[3:] == ["1.2.3", NODE.started, "yes", "10", "12,345", "3 ms", "70 ms"]
    assert follower[3:] == ["1.2.3", NODE.started, "10", "12,345", "3 ms", "70 ms", "unavailable"]
    assert "1 pending, 0 running, 0 worker processes, paused" in text
    assert "0 scheduled, 0 retry, 1 archived, 0 completed" in text
    runs = [re.split(r"  +", line) for line in lines if line.startswith((overdue, later))]
    assert [run[:2] for run in runs] == [
        [overdue, rfc3339(from_unix_ms(now_ms - 7_200_000))],
        [later, rfc3339(from_unix_ms(now_ms + 3_600_000))],
    ]
    assert runs[0][2] == "overdue for 2 h"


async def test_status_shows_names_where_the_database_is_set(
    shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor())
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) + 3_600_000})
    (run,) = [line for line in (await shell.output("status", code=1)).splitlines() if line.startswith(MONITOR)]
    assert re.split(r"  +", run)[1] == "Shop"
    status = json.loads(await shell.output("status", "--json", code=1))
    assert (status["next_runs"][0]["name"], status["names_problem"]) == ("Shop", None)


async def test_status_needs_only_redis(shell: Shell, redis: Redis, redis_server: RedisServer) -> None:
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) + 3_600_000})
    alone = Shell(shell.folder, REDIS_PORT=redis_server.port)
    text = await alone.output("status", code=1)
    assert MONITOR in text
    assert "names      not shown: DB_* is not set" in text
    assert "names      not shown: DB_PORT is '99999': must be " in await alone.output(
        "status", code=1, **on_postgres(99_999)
    )
    with free_port() as port:
        text = await alone.output("status", code=1, **on_postgres(port))
    assert MONITOR in text
    assert "names      not shown: " in text


async def test_status_does_not_wait_for_a_database_that_hangs(
    shell: Shell, redis: Redis, own_postgres_server: Postgres
) -> None:
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) + 3_600_000})
    own_postgres_server.pause()
    server = on_postgres(own_postgres_server.port, DB_USER=SUPERUSER, DB_NAME="postgres")
    status = json.loads(await shell.output("status", "--json", code=1, **server))
    assert status["next_runs"][0]["name"] is None
    assert "no answer within 2 s" in status["names_problem"]


@pytest.mark.long
async def test_status_lists_monitors_that_are_skipped_as_invalid_until_they_are_fixed(
    shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    never, late, fine = a_monitor(interval=0), monitor_row(name="Late", interval=1, timeout=2**40), monitor_row()
    await empty_sqlite_db.insert("monitors", never, late, fine)
    await put_worker(redis)
    reasons = {
        MONITOR: "interval is 0 s: must be at least 1 s",
        late["id"]: "timeout is 1099511627776 s: must be at most 2147483647 s",
    }
    async with started(shell.folder, **shell.variables):

        async def invalid() -> dict[str, Any]:
            found: dict[str, Any] = json.loads((await shell.run("status", "--json")).out)["invalid"]
            assert found["count"] == len(found["monitors"])
            return {one["monitor_id"]: one["reason"] for one in found["monitors"]}

        async def listed() -> bool:
            return await invalid() == reasons

        async def noted(count: int) -> bool:
            return await redis.hlen(INVALID) == count

        await until(lambda: noted(2))
        await until(listed)
        lines = (await shell.output("status", code=1)).splitlines()
        assert lines[0] == "trouble    2 monitors are skipped as invalid and not checked"
        rows = [re.split(r"  +", line) for line in lines]
        for id_, name in ((MONITOR, "Shop"), (late["id"], "Late")):
            assert [id_, name, reasons[id_]] in rows
        await empty_sqlite_db.update("monitors", MONITOR, interval=60)
        await empty_sqlite_db.update("monitors", late["id"], timeout=16)
        await until(lambda: noted(0), "the leader has seen them fixed")
        assert await invalid() == {}


@pytest.mark.long
async def test_status_shows_a_killed_node_as_gone_within_ten_seconds(
    shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    async with started(shell.folder, **shell.variables) as stays, started(shell.folder, **shell.variables) as dies:
        await stays.until_logged("producer starting")
        killed = (await dies.until_logged("producer starting"))["node"]

        async def nodes() -> dict[str, Any]:
            status = json.loads((await shell.run("status", "--json")).out)
            return {node["id"]: node for node in status["nodes"]}

        async def both() -> bool:
            return sum(not node["gone"] for node in (await nodes()).values()) == 2

        async def gone() -> bool:
            return bool((await nodes())[killed]["gone"])

        await until(both)
        dies.signal(signal.SIGKILL)
        await dies.ended()
        killed_ms = await redis_now_ms(redis)
        await until(gone)
        # Not when this test saw it, but when it counted as gone.
        assert await score(redis, NODES, killed) <= killed_ms + 10_000
        node = (await nodes())[killed]
        assert datetime.fromisoformat(node["last_seen"]) <= from_unix_ms(killed_ms)
        (row,) = [line for line in (await shell.output("status", code=1)).splitlines() if line.startswith(killed)]
        assert re.split(r"  +", row)[1] == "gone"
        assert await stays.stop() == 0
        assert list(await nodes()) == [killed]


async def test_status_beside_a_go_producer(shell: Shell, redis: Redis) -> None:
    await redis.set(LEADER, "producer-4711", px=60_000)
    await redis.set(GO_SEEN, 1, px=60_000)
    await put_worker(redis)
    text = await shell.output("status")
    assert "leader     producer-4711 (a Go producer)" in text
    assert "slots      with PRODUCER_SCHEDULE=auto: aligned, because a Go producer was detected" in text
    status = json.loads(await shell.output("status", "--json"))
    assert (status["leader"], status["leader_is_go"], status["spacing"]) == ("producer-4711", True, "aligned")
    assert status["running"]


async def test_status_where_nobody_leads(shell: Shell, redis: Redis) -> None:
    await Registry(redis, Timing()).register(NODE)
    await put_worker(redis)
    assert (await shell.output("status", code=1)).splitlines()[0] == f"trouble    {LEADERLESS}"


async def test_status_as_json_of_a_running_node(shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase) -> None:
    await empty_sqlite_db.insert("monitors", *(monitor_row(interval=86_400) for _ in range(30)))
    async with started(shell.folder, **shell.variables) as producer:
        start = await producer.until_logged("producer starting")
        await producer.until_logged("sweep finished")
        out = await shell.output("status", "--json", code=1)
        status = json.loads(out)
        assert out.count("\n") == 1
        (node,) = status["nodes"]
        assert node["id"] == status["leader"] == start["node"]
        assert (node["version"], node["gone"], node["leads"]) == (start["version"], False, True)
        assert (status["leader_is_go"], status["spacing"]) == (False, "spread")
        assert status["scheduled"] == 30
        assert status["trouble"] == [NO_WORKER]
        assert (status["queue"]["paused"], status["queue"]["workers"]) == (False, 0)
        runs = status["next_runs"]
        assert len(runs) == 10
        assert [run["in_s"] for run in runs] == sorted(run["in_s"] for run in runs)
        assert await producer.stop() == 0
    gone = json.loads(await shell.output("status", "--json", code=1))
    assert (gone["nodes"], gone["leader"], gone["running"]) == ([], None, False)


@pytest.mark.parametrize("arguments", [("--watch",), ("--watch", "--json")], ids=["text", "json"])
async def test_a_watch_survives_an_interruption_of_redis(
    shell: Shell, own_redis_server: RedisServer, arguments: tuple[str, ...]
) -> None:
    shell.variables["REDIS_PORT"] = own_redis_server.port
    process = watching(shell, arguments)
    assert process.stdout is not None
    stdout = process.stdout

    async def until_printed(*words: str) -> None:
        line = ""
        while not any(word in line for word in words):
            line = await asyncio.to_thread(stdout.readline)
            assert line, "it ended by itself"
        assert line.startswith('{"schema":1,') == ("--json" in arguments)

    try:
        await until_printed("leader")
        own_redis_server.kill()
        await until_printed("redis: ")
        own_redis_server.restart()
        await until_printed("leader")
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.to_thread(process.communicate, timeout=WITHIN_S)
        assert "Traceback" not in err
        assert process.returncode == 130
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def watching(shell: Shell, arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Start `status` with these arguments, its output line by line in a pipe."""
    return subprocess.Popen(
        command("status", *arguments),
        cwd=shell.folder,
        env=environment(**shell.variables, PYTHONUNBUFFERED=1),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("arguments", [("--watch",), ("--watch", "--json")], ids=["text", "json"])
async def test_status_is_watched_until_a_signal(
    shell: Shell, arguments: tuple[str, ...], number: signal.Signals
) -> None:
    process = watching(shell, arguments)
    try:
        assert process.stdout is not None
        for _ in range(2):
            line = ""
            while "leader" not in line:
                line = await asyncio.to_thread(process.stdout.readline)
                assert line, "it ended by itself"
        process.send_signal(number)
        _, err = await asyncio.to_thread(process.communicate, timeout=WITHIN_S)
        assert "Traceback" not in err
        assert process.returncode == 130
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.parametrize("arguments", [("--watch",), ("--watch", "--json")], ids=["text", "json"])
async def test_a_reader_that_has_seen_enough_ends_the_watch(shell: Shell, arguments: tuple[str, ...]) -> None:
    """As `status --watch | head -1` does."""
    process = watching(shell, arguments)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert await asyncio.to_thread(process.stdout.readline)
        process.stdout.close()
        err = await asyncio.to_thread(process.stderr.read)
        await asyncio.to_thread(process.wait, WITHIN_S)
        assert "Traceback" not in err
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stderr:
            process.stderr.close()


# --- run-now


@pytest.fixture
async def led(redis: Redis) -> None:
    """Let a producer seem to run."""
    await redis.set(LEADER, "host-1-na0")


async def test_run_now_makes_a_monitor_due_at_once(
    shell: Shell, led: None, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    other = monitor_row()
    await empty_sqlite_db.insert("monitors", a_monitor(), other)
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) + 50_000})
    answer = await shell.output("run-now", MONITOR, other["id"].upper(), f" {MONITOR} ", "Shop")
    assert answer.splitlines() == [f"Shop ({MONITOR}): due now", f"{other['id']}: due now"]
    for id_ in (MONITOR, other["id"]):
        assert await score(redis, DUE, id_) <= await redis_now_ms(redis) + 1


async def test_run_now_of_a_monitor_that_is_handled_this_moment(
    shell: Shell, led: None, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor())
    await redis.zadd(LEASE, {MONITOR: await redis_now_ms(redis) + 60_000})
    assert await shell.output("run-now", MONITOR) == f"{MONITOR}: being handled right now\n"
    assert not await redis.exists(DUE)


async def test_run_now_refuses_some_and_does_the_others(
    shell: Shell, led: None, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    inactive, invalid, unknown = monitor_row(active=False), monitor_row(interval=0), new_id()
    same = sorted([monitor_row(name="Same"), monitor_row(name="Same")], key=lambda row: row["id"])
    await empty_sqlite_db.insert("monitors", a_monitor(), inactive, invalid, *same)
    arguments = ["run-now", unknown, inactive["id"], "shop", invalid["id"], "no-id", "Same"]
    answer = await shell.output(*arguments, code=1)
    assert answer.splitlines() == [
        f"{unknown}: unknown, the database has no such monitor",
        f"{inactive['id']}: not active, activate it first",
        f"shop ({MONITOR}): due now",
        f"{invalid['id']}: skipped as invalid, interval is 0 s: must be at least 1 s",
        "no-id: not a monitor id, and no monitor has this name",
        "Same: 2 monitors have this name, give the id of one",
        *(f"  {row['id']}" for row in same),
    ]
    assert await redis.zrange(DUE, 0, -1) == [MONITOR.encode()]
    report = json.loads(await shell.output(*arguments, "--json", code=1))
    assert report["running"]
    assert [one["due"] for one in report["monitors"]] == [False, False, True, False, False, False]
    assert report["monitors"][2] == {
        "argument": "shop",
        "monitor_id": MONITOR,
        "due": True,
        "result": "due now",
        "matches": [],
    }
    assert report["monitors"][5]["matches"] == [row["id"] for row in same]


async def test_run_now_with_no_producer_says_so(shell: Shell, empty_sqlite_db: SqliteDatabase) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor())
    answer = await shell.output("run-now", MONITOR, code=1)
    assert answer.splitlines() == [f"{MONITOR}: due now", NOT_RUNNING]


async def test_run_now_runs_the_check_while_a_node_runs(
    shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor(interval=86_400))
    async with started(shell.folder, **shell.variables) as producer:
        await producer.until_logged("sweep finished")
        await shell.output("run-now", MONITOR)
        await producer.until_logged("batches settled")
    assert await redis.lrange(keys.PENDING, 0, -1) == [task_id(MONITOR).encode()]
    due_ms = int(await score(redis, DUE, MONITOR))
    assert due_ms == cadence(MONITOR, 86_400).slot_from(due_ms)


async def test_run_now_without_an_id_is_a_wrong_use(shell: Shell) -> None:
    ended = await shell.run("run-now")
    assert (ended.code, ended.out) == (2, "")
    assert "ID|NAME" in ended.err


# --- explain


async def test_explain_a_monitor_that_is_well(
    shell: Shell, led: None, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    proxy = proxy_row(auth=True, username="u", password=SECRET)
    await empty_sqlite_db.insert("proxies", proxy)
    await empty_sqlite_db.insert(
        "monitors", a_monitor(proxy_id=proxy["id"], config=json.dumps({"url": f"https://u:{SECRET}@example.org"}))
    )
    due_ms = cadence(MONITOR, 60).slot_from(await redis_now_ms(redis) + 30_000)
    await redis.zadd(DUE, {MONITOR: due_ms})
    for written in (MONITOR, MONITOR.upper(), f" {MONITOR}\n"):
        answer = await shell.explained(written)
        target = f"'Shop', type http, every 1 min, timeout 16 s, through proxy {proxy['id']}; active"
        assert answer["monitor"] == target
        assert answer["schedule"].startswith("due in ")
        assert answer["schedule"].endswith(f", at {rfc3339(from_unix_ms(due_ms))}")
        assert answer["maintenance"] == "none active"
        assert answer["task"].startswith("none in the queue")
        assert answer["leader"] == "host-1-na0"
        slots, spacing = answer["next slots"].split(" (")
        assert spacing == "spread)"
        grid = cadence(MONITOR, 60)
        first_ms = min(grid.slot_from(await redis_now_ms(redis)), due_ms)
        known = {rfc3339(from_unix_ms(first_ms + n * 60_000)) for n in range(-2, 6)}
        assert len(slots.split(", ")) == 3
        assert set(slots.split(", ")) <= known


async def test_explain_a_monitor_that_is_retried(shell: Shell, led: None, empty_sqlite_db: SqliteDatabase) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor(status=2, retry_interval=20))
    assert (await shell.explained())["monitor"].startswith("'Shop', type http, every 1 min, timeout")
    answer = await shell.explained(PRODUCER_RETRY_INTERVAL="on")
    assert answer["monitor"].startswith("'Shop', type http, every 1 min (pending: retried every 20 s), timeout 16 s")


async def in_the_schedule(redis: Redis) -> None:
    """Have the monitor due soon, as a mistake would: there is a time that could be promised."""
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) + 60_000})


def promises(answer: dict[str, str]) -> bool:
    """Return whether there is any instant or span of time in it."""
    texts = [answer[word] for word in answer if word != "monitor"]
    return "next slots" in answer or any(re.search(r"\d{4}-\d\d|\d (ms|s|min|h)\b|due in", text) for text in texts)


@pytest.mark.parametrize("scheduled", [False, True])
async def test_explain_a_monitor_that_nothing_is_known_of(
    shell: Shell, led: None, redis: Redis, scheduled: bool
) -> None:
    if scheduled:
        await in_the_schedule(redis)
    answer = await shell.explained(code=1)
    assert answer["monitor"] == "unknown: the database has no such monitor"
    assert answer["schedule"] == (
        "still scheduled; a producer will remove it without a check" if scheduled else "not scheduled"
    )
    assert not promises(answer)
    explanation = json.loads(await shell.output("explain", MONITOR, "--json", code=1))
    assert (explanation["verdict"], explanation["due"], explanation["next_slots"]) == ("unknown", None, [])


@pytest.mark.parametrize("argument", ["no-id", "", "\udcff\x1b%s{}", "a" * 24])
async def test_explain_what_is_neither_an_id_nor_a_name(shell: Shell, argument: str) -> None:
    answer = await shell.explained(argument, code=1)
    assert answer == {"monitor": "not a monitor id, and no monitor has this name"}


async def test_explain_by_name(shell: Shell, led: None, empty_sqlite_db: SqliteDatabase) -> None:
    upper, one, two = monitor_row(name="SHOP"), monitor_row(name="Blog"), monitor_row(name="BLOG")
    await empty_sqlite_db.insert("monitors", a_monitor(), upper, one, two)
    answer = await shell.explained(" Shop ")
    assert answer["monitor"] == f"'Shop' ({MONITOR}), type http, every 1 min, timeout 16 s; active"
    assert (await shell.explained("SHOP"))["monitor"].startswith(f"'SHOP' ({upper['id']})")
    lines = (await shell.output("explain", "blog", code=1)).splitlines()
    assert lines[0] == "monitor      2 monitors have this name, give the id of one"
    assert sorted(line.split() for line in lines[1:]) == sorted([row["id"], row["name"]] for row in (one, two))
    explanation = json.loads(await shell.output("explain", "blog", "--json", code=1))
    assert explanation["verdict"] == "ambiguous"
    assert {match["monitor_id"] for match in explanation["matches"]} == {one["id"], two["id"]}


async def test_explain_a_monitor_that_is_not_active(
    shell: Shell, led: None, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor(active=False))
    await in_the_schedule(redis)
    answer = await shell.explained(code=1)
    assert answer["monitor"].endswith("; NOT ACTIVE, so it is not checked")
    assert not promises(answer)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"interval": 0}, "interval is 0 s: must be at least 1 s"),
        ({"timeout": 2**40}, "timeout is 1099511627776 s: must be at most 2147483647 s"),
    ],
)
async def test_explain_a_monitor_that_is_invalid(
    shell: Shell, led: None, redis: Redis, empty_sqlite_db: SqliteDatabase, wrong: dict[str, Any], reason: str
) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor(**wrong))
    await in_the_schedule(redis)
    answer = await shell.explained(code=1)
    assert answer["monitor"] == f"skipped as invalid, so it is not checked: {reason}"
    assert not promises(answer)
    explanation = json.loads(await shell.output("explain", MONITOR, "--json", code=1))
    assert (explanation["verdict"], explanation["monitor"], explanation["due"]) == ("invalid", None, None)
    assert explanation["next_slots"] == []


@pytest.mark.parametrize("due_in_ms", [60_000, -60_000])
async def test_explain_with_no_producer_predicts_nothing(
    shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase, due_in_ms: int
) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor())
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) + due_in_ms})
    answer = await shell.explained(code=1)
    assert answer["monitor"].endswith(f"; active, but {NOT_RUNNING}")
    assert answer["schedule"] == (
        "scheduled, but no producer is running to check it"
        if due_in_ms > 0
        else "OVERDUE for 1 min: no producer is running"
    )
    assert "next slots" not in answer
    explanation = json.loads(await shell.output("explain", MONITOR, "--json", code=1))
    assert (explanation["verdict"], explanation["reason"], explanation["next_slots"]) == (
        "not_running",
        NOT_RUNNING,
        [],
    )


async def test_explain_a_monitor_under_maintenance(shell: Shell, led: None, empty_sqlite_db: SqliteDatabase) -> None:
    manual, broken, over = (
        maintenance_row(),
        maintenance_row(strategy="cron", cron="every so often", duration=5),
        maintenance_row(active=False),
    )
    await empty_sqlite_db.insert("monitors", a_monitor())
    await empty_sqlite_db.insert("maintenances", manual, broken, over)
    await empty_sqlite_db.insert(
        "monitor_maintenances", *(link_row(MONITOR, one["id"]) for one in (manual, broken, over))
    )
    answer = await shell.explained()
    assert answer["maintenance"].startswith("IN ITS WINDOW NOW, checks are reported as maintenance, of 2 active")
    await empty_sqlite_db.update("maintenances", manual["id"], active=False)
    answer = await shell.explained()
    assert answer["maintenance"].startswith("not in a window now, of 1 active")
    assert f"{broken['id']} cannot be evaluated: " in answer["maintenance"]


async def test_explain_where_a_monitor_is(
    shell: Shell, led: None, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor())
    now_ms = await redis_now_ms(redis)
    await redis.zadd(LEASE, {MONITOR: now_ms + 3_600_000})
    answer = await shell.explained()
    assert answer["schedule"].startswith("being handled by a node; due again in ")
    await redis.zadd(LEASE, {MONITOR: now_ms - 7_200_000})
    answer = await shell.explained()
    assert answer["schedule"].startswith("its claim expired 2 h")
    await redis.delete(LEASE)
    await redis.zadd(DUE, {MONITOR: now_ms - 7_200_000})
    answer = await shell.explained()
    assert re.fullmatch(r"OVERDUE for 2 h.*: no node has claimed it yet", answer["schedule"])


@pytest.mark.parametrize("due_ms", [10**18, float("inf")])
async def test_a_score_that_is_not_a_time(
    shell: Shell, led: None, redis: Redis, empty_sqlite_db: SqliteDatabase, due_ms: float
) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor())
    await redis.zadd(DUE, {MONITOR: due_ms})
    text = await shell.output("status", code=1)
    assert MONITOR in text
    json.loads(await shell.output("status", "--json", code=1))
    assert (await shell.explained())["schedule"]


@pytest.mark.parametrize("member", [b"\xff", b"\x1b[31m\r\n"])
async def test_an_id_that_a_terminal_cannot_show(shell: Shell, redis: Redis, member: bytes) -> None:
    await redis.zadd(DUE, {member: 10**13})
    assert len(json.loads(await shell.output("status", "--json", code=1))["next_runs"]) == 1
    text = await shell.output("status", code=1)
    assert text.replace("\n", "").isprintable()


async def test_explain_what_became_of_the_task(
    shell: Shell, led: None, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor())
    cases = [
        ("pending", "waits for a worker, queued "),
        ("active", "is being run by a worker"),
        ("orphaned", "was taken by a worker that has died; the next check replaces it"),
        ("archived", "is 'archived' in asynq; the next check replaces it"),
        ("malformed", "is 'pondering' in asynq; the next check replaces it"),
    ]
    for state, words in cases:
        await redis.flushall()
        await redis.set(LEADER, "host-1-na0")
        match state:
            case "pending":
                await put_pending(redis, MONITOR)
            case "active":
                await put_active(redis, MONITOR, lease_s=time.time() + 3600)
            case "orphaned":
                await put_active(redis, MONITOR, lease_s=time.time() - 60)
            case "malformed":
                await put_malformed(redis, MONITOR, "unknown state")
            case "archived":
                await put_in_set(redis, MONITOR, "archived")
        assert (await shell.explained())["task"].startswith(words), state


async def test_explain_the_queue_and_the_leader(shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor())
    await redis.set(LEADER, "producer-4711", px=60_000)
    await redis.set(GO_SEEN, 1, px=60_000)
    answer = await shell.explained()
    assert answer["queue"] == "no worker takes checks from the queue"
    assert answer["leader"] == "producer-4711 (a Go producer)"
    assert answer["next slots"].endswith(f"({Spacing.ALIGNED.value})")
    answer = await shell.explained(PRODUCER_SCHEDULE="spread")
    assert answer["next slots"].endswith(f"({Spacing.SPREAD.value})")
    await redis.set(keys.PAUSED, 1)
    assert (await shell.explained())["queue"] == "the queue is paused: checks wait until it is resumed"


# --- the docs


DOCS = Path(__file__).parents[2] / "docs" / "commands.md"


def same_keys(shown: Any, real: Any, where: str = "") -> None:
    """Make sure that two JSON values have the same keys, as deep as both go."""
    if isinstance(shown, dict) and isinstance(real, dict):
        assert list(shown) == list(real), where
        for key, value in shown.items():
            same_keys(value, real[key], f"{where}.{key}")
    if isinstance(shown, list) and isinstance(real, list) and shown and real:
        same_keys(shown[0], real[0], f"{where}[]")


async def test_the_docs_show_and_describe_every_field(
    shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    text = DOCS.read_text(encoding="utf-8")
    shown = {name: json.loads(block) for name, block in re.findall(r"```json (\S+)\n(.*?)```", text, re.DOTALL)}
    described = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", text))))
    swept = Swept(seen=1, added=0, moved=0, removed=0, relisted=0, invalid=1, seconds=0.1)
    recent = Recent(missed={"still_running": 2}, healed=[Healed(MONITOR, "2026-11-24T21:10:01.3Z", "healed_orphaned")])
    await Registry(redis, Timing()).register(replace(NODE, swept=msgspec.to_builtins(swept), recent=recent))
    await redis.set(LEADER, NODE.id)
    await empty_sqlite_db.insert("monitors", a_monitor())
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) - 3_600_000})
    await put_pending(redis, MONITOR)
    await InvalidMonitors(redis, Timing()).note({new_id(): "interval is 0 s: must be at least 1 s"})
    for arguments, code in (
        (("status",), 1),
        (("explain", MONITOR), 0),
        (("run-now", "Shop"), 0),
        (("pause", "--reason", "a test"), 0),
        (("resume",), 0),
    ):
        real = json.loads(await shell.output(*arguments, "--json", code=code))
        same_keys(shown[arguments[0]], real, arguments[0])
        assert real["schema"] == 1
        assert keys_in(real) - described == set()


def keys_in(value: Any) -> set[str]:
    """Return all keys of a JSON value, as deep as it goes."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_in, value.values()))
    return set[str]().union(*map(keys_in, value)) if isinstance(value, list) else set()


# --- something is unavailable, or wrong


async def test_explain_shows_the_rest_while_the_database_is_unavailable(
    shell: Shell, led: None, redis: Redis, tmp_path: Path
) -> None:
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) + 3_600_000})
    with free_port() as port:
        server = on_postgres(port)
        answer = await shell.explained(code=1, **server)
    assert answer["monitor"].startswith("cannot be read: database: ")
    assert answer["schedule"].startswith("due in ")
    assert answer["task"].startswith("none in the queue")


async def test_run_now_while_the_database_is_unavailable(shell: Shell, redis: Redis) -> None:
    with free_port() as port:
        server = on_postgres(port)
        ended = await shell.run("run-now", MONITOR, **server)
    assert (ended.code, ended.out) == (1, "")
    (problem,) = ended.problems
    assert problem.startswith("peekaping-producer: database: ")
    assert not await redis.exists(DUE)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
async def test_without_redis_each_says_so_in_one_line(shell: Shell, arguments: tuple[str, ...]) -> None:
    with free_port() as port:
        ended = await shell.run(*arguments, REDIS_PORT=port, REDIS_PASSWORD=SECRET)
    assert (ended.code, ended.out) == (1, "")
    (problem,) = ended.problems
    assert problem.startswith("peekaping-producer: redis: ")
    assert problem.endswith("; try again later")


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
async def test_a_frozen_redis_is_given_up(
    shell: Shell, own_redis_server: RedisServer, arguments: tuple[str, ...]
) -> None:
    own_redis_server.pause()
    ended = await shell.run(*arguments, REDIS_PORT=own_redis_server.port)
    assert (ended.code, ended.out) == (1, "")
    (problem,) = ended.problems
    assert "no answer within" in problem


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
async def test_a_refused_password_needs_operator_action(
    shell: Shell, own_redis_server: RedisServer, arguments: tuple[str, ...]
) -> None:
    async with connected(own_redis_server.port) as client:
        await client.config_set("requirepass", "another one")
    ended = await shell.run(*arguments, REDIS_PORT=own_redis_server.port, REDIS_PASSWORD=SECRET)
    assert (ended.code, ended.out) == (2, "")
    (problem,) = ended.problems
    assert "REDIS_PASSWORD" in problem


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
async def test_wrong_settings_are_reported_in_a_line_each(shell: Shell, arguments: tuple[str, ...]) -> None:
    wrong = {**shell.variables, **on_postgres(99_999), "REDIS_PASSWORD": SECRET, "REDIS_DB": "99"}
    ended = await asyncio.to_thread(run_to_the_end, shell.folder, *arguments, **wrong)
    assert (ended.code, ended.out) == (2, "")
    assert "Traceback" not in ended.err
    assert SECRET not in ended.err
    variables = ("REDIS_DB",) if arguments == ("status",) else ("DB_PORT", "REDIS_DB")
    assert [line.split()[:2] for line in ended.problems] == [["peekaping-producer:", name] for name in variables]


@pytest.mark.parametrize("arguments", COMMANDS[1:], ids=lambda arguments: arguments[0])
async def test_a_file_that_is_not_a_database_needs_operator_action(
    shell: Shell, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "notes.txt").write_text("not a database " * 100)
    ended = await shell.run(*arguments, DB_NAME=tmp_path / "notes.txt")
    assert (ended.code, ended.out) == (2, "")
    (problem,) = ended.problems
    assert "not an SQLite file" in problem


async def test_on_postgres_too(shell: Shell, led: None, redis: Redis, empty_postgres_db: PostgresDatabase) -> None:
    await empty_postgres_db.insert("monitors", a_monitor())
    server = on_postgres(empty_postgres_db.server.port, DB_USER=SUPERUSER, DB_NAME=empty_postgres_db.name)
    assert await shell.output("run-now", MONITOR, **server) == f"{MONITOR}: due now\n"
    answer = await shell.explained(**server)
    assert answer["monitor"] == "'Shop', type http, every 1 min, timeout 16 s; active"
    assert (await shell.explained("shop", **server))["monitor"].startswith(f"'Shop' ({MONITOR})")
