"""What operators ask the fleet from a shell: `status`, `run-now`, `explain`, as processes of their own.

Each says what it found in words, ends with 0, 1 (not done, not well) or 2 (wrong settings), and never with a traceback.
"""

import asyncio
import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.message import task_id
from peekaping_producer.cadence import Spacing, cadence
from peekaping_producer.clock import from_unix_ms, rfc3339
from peekaping_producer.embedded import HOST, EmbeddedRedis
from peekaping_producer.fleet.registry import NodeInfo, Registry
from peekaping_producer.monitor import MonitorId
from peekaping_producer.schedule.keys import DUE, GO_SEEN, LEADER, LEASE
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
from support.postgres import SUPERUSER
from support.producer import WITHIN_S, Ended, command, environment, run_to_the_end, started
from support.redis_time import redis_now_ms

MONITOR = MonitorId("11111111-1111-4111-8111-111111111111")
SECRET = "hush-do-not-tell"
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
    database_away=None,
    checks_from_copy=0,
    oldest_copy_s=0,
    swept=None,
)


def addressed(database: SqliteDatabase, server: EmbeddedRedis, **others: Any) -> dict[str, Any]:
    """Return the variables that lead to both."""
    return {"DB_TYPE": "sqlite", "DB_NAME": database.path, "REDIS_PORT": server.port, **others}


def on_postgres(port: int, **others: Any) -> dict[str, Any]:
    """Return the variables that lead to a database on a Postgres of this machine."""
    return {
        "DB_TYPE": "postgres",
        "DB_HOST": HOST,
        "DB_PORT": port,
        "DB_USER": "me",
        "DB_PASS": SECRET,
        "DB_NAME": "x",
        **others,
    }


class Shell:
    """An operator's shell, in an empty folder, with variables that lead to a database and a Redis."""

    def __init__(self, folder: Path, **variables: Any) -> None:
        self.folder = folder
        self.variables = variables

    async def run(self, *arguments: str, **others: Any) -> Ended:
        """Run a command to its end; whatever it meets, it ends without a traceback and without a secret."""
        ended = await asyncio.to_thread(run_to_the_end, self.folder, *arguments, **{**self.variables, **others})
        for text in (ended.out, ended.err):
            assert "Traceback" not in text
            assert SECRET not in text
        return ended

    async def told(self, *arguments: str, code: int = 0, **others: Any) -> str:
        """Return what a command prints; it has nothing for standard error."""
        ended = await self.run(*arguments, **others)
        assert (ended.code, ended.err) == (code, ""), ended.out
        return ended.out

    async def explained(self, id_: str = MONITOR, *, code: int = 0, **others: Any) -> dict[str, str]:
        """Return what `explain` says, by the word that a line begins with."""
        lines = (await self.told("explain", id_, code=code, **others)).splitlines()
        return {word: rest.strip() for word, _, rest in (line.partition("  ") for line in lines)}


@pytest.fixture
def shell(tmp_path: Path, empty_sqlite_db: SqliteDatabase, redis_server: EmbeddedRedis, redis: Redis) -> Shell:
    folder = tmp_path / "empty"
    folder.mkdir()
    return Shell(folder, **addressed(empty_sqlite_db, redis_server))


@contextmanager
def free_port() -> Iterator[int]:
    """Hold a port on which nothing listens."""
    with socket.socket() as held:
        held.bind((HOST, 0))
        yield held.getsockname()[1]


def a_monitor(**values: Any) -> dict[str, Any]:
    return monitor_row(**{"id": MONITOR, "name": "Shop", "interval": 60, "timeout": 16, **values})


# --- status


async def test_status_of_an_empty_redis(shell: Shell) -> None:
    text = await shell.told("status")
    assert "leader     nobody" in text
    assert "schedule   0 waiting, 0 being handled; nothing is scheduled" in text
    assert "slots      spread (where PRODUCER_SCHEDULE is auto)" in text
    assert "trouble    no node leads: new monitors are not scheduled, deleted ones not removed" in text
    assert "trouble    no worker takes checks from the queue" in text
    assert "0 pending, 0 running, 0 worker process(es)" in text


async def test_status_shows_the_fleet_the_schedule_and_the_queue(shell: Shell, redis: Redis) -> None:
    registry = Registry(redis, Timing())
    await registry.register(NODE)
    await registry.register(replace(NODE, id="host-2-nb1", leader=False, database_away="no answer within 2 s"))
    await redis.set(LEADER, NODE.id)
    now_ms = await redis_now_ms(redis)
    overdue, later = MonitorId(new_id()), MonitorId(new_id())
    await redis.zadd(DUE, {overdue: now_ms - 7_200_000, later: now_ms + 3_600_000})
    await redis.zadd(LEASE, {MONITOR: now_ms + 5000})
    await put_in_set(redis, MONITOR, "archived")
    await put_pending(redis, overdue)
    await redis.set(keys.PAUSED, 1)

    text = await shell.told("status")
    lines = text.splitlines()
    assert lines[0] == f"leader     {NODE.id}"
    assert lines[1] == "schedule   2 waiting, 1 being handled; the longest overdue for 2 h"
    assert "trouble    the queue is paused, checks wait until it is resumed" in lines
    assert "trouble    host-2-nb1: database unavailable, no answer within 2 s" in lines
    (leader,) = [line.split() for line in lines if line.startswith(NODE.id)]
    (follower,) = [line.split() for line in lines if line.startswith("host-2-nb1")]
    assert leader == [NODE.id, "1.2.3", NODE.started, "yes", "10", "12,345", "3", "ms", "70", "ms"]
    assert follower == ["host-2-nb1", "1.2.3", NODE.started, "10", "12,345", "3", "ms", "70", "ms"]
    assert "1 pending, 0 running, 0 worker process(es), paused" in text
    assert "0 scheduled, 0 retry, 1 archived, 0 completed" in text
    runs = [line.split(maxsplit=2) for line in lines if line.startswith((overdue, later))]
    assert [run[:2] for run in runs] == [
        [overdue, rfc3339(from_unix_ms(now_ms - 7_200_000))],
        [later, rfc3339(from_unix_ms(now_ms + 3_600_000))],
    ]
    assert runs[0][2] == "overdue for 2 h"


async def test_status_beside_a_go_producer(shell: Shell, redis: Redis) -> None:
    await redis.set(LEADER, "producer-4711", px=60_000)
    await redis.set(GO_SEEN, 1, px=60_000)
    text = await shell.told("status")
    assert "leader     producer-4711 (a Go producer)" in text
    assert "slots      aligned, for a Go producer was seen within 2 minutes" in text
    status = json.loads(await shell.told("status", "--json"))
    assert (status["leader"], status["leader_is_go"], status["spacing"]) == ("producer-4711", True, "aligned")


async def test_status_as_json_of_a_running_node(shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase) -> None:
    await empty_sqlite_db.insert("monitors", *(monitor_row(interval=86_400) for _ in range(30)))
    async with started(shell.folder, **shell.variables) as producer:
        start = await producer.until_logged("producer starting")
        await producer.until_logged("sweep finished")
        out = await shell.told("status", "--json")
        status = json.loads(out)
        assert out.count("\n") == 1
        (node,) = status["nodes"]
        assert node["id"] == status["leader"] == start["node"]
        assert node["version"] == start["version"]
        assert (status["leader_is_go"], status["spacing"]) == (False, "spread")
        assert status["due"] + status["leased"] == 30
        assert status["oldest_due_ms"] == 0
        assert status["trouble"] == ["no worker takes checks from the queue"]
        assert (status["queue"]["paused"], status["queue"]["workers"]) == (False, 0)
        runs = status["next_runs"]
        assert len(runs) == 10
        assert [run["in_s"] for run in runs] == sorted(run["in_s"] for run in runs)
        assert await producer.stop() == 0
    gone = json.loads(await shell.told("status", "--json"))
    assert (gone["nodes"], gone["leader"]) == ([], None)


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
        assert process.returncode in {0, 130}
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


async def test_run_now_makes_a_monitor_due_at_once(shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase) -> None:
    other = monitor_row()
    await empty_sqlite_db.insert("monitors", a_monitor(), other)
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) + 50_000})
    told = await shell.told("run-now", MONITOR, other["id"].upper(), f" {MONITOR} ")
    assert told.splitlines() == [f"{MONITOR}: due now", f"{other['id']}: due now"]
    for id_ in (MONITOR, other["id"]):
        assert await score(redis, DUE, id_) <= await redis_now_ms(redis) + 1


async def test_run_now_of_a_monitor_that_is_handled_this_moment(
    shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor())
    await redis.zadd(LEASE, {MONITOR: await redis_now_ms(redis) + 60_000})
    assert await shell.told("run-now", MONITOR) == f"{MONITOR}: being handled this very moment\n"
    assert not await redis.exists(DUE)


async def test_run_now_refuses_some_and_does_the_others(
    shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    inactive, aside, unknown = monitor_row(active=False), monitor_row(interval=0), new_id()
    await empty_sqlite_db.insert("monitors", a_monitor(), inactive, aside)
    told = await shell.told("run-now", unknown, inactive["id"], MONITOR, aside["id"], "no-id", code=1)
    lines = dict(line.split(": ", 1) for line in told.splitlines())
    assert lines[MONITOR] == "due now"
    assert lines[unknown] == "unknown, the database has no such monitor"
    assert lines[inactive["id"]] == "not active, activate it first"
    assert "interval" in lines[aside["id"]]
    assert lines["no-id"]
    assert len(lines) == 5
    assert await redis.zrange(DUE, 0, -1) == [MONITOR.encode()]


async def test_run_now_runs_the_check_while_a_node_runs(
    shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor(interval=86_400))
    async with started(shell.folder, **shell.variables) as producer:
        await producer.until_logged("sweep finished")
        await shell.told("run-now", MONITOR)
        await producer.until_logged("batch settled")
    assert await redis.lrange(keys.PENDING, 0, -1) == [task_id(MONITOR).encode()]
    due_ms = int(await score(redis, DUE, MONITOR))
    assert due_ms == cadence(MONITOR, 86_400).slot_from(due_ms)


async def test_run_now_without_an_id_is_a_wrong_use(shell: Shell) -> None:
    ended = await shell.run("run-now")
    assert (ended.code, ended.out) == (2, "")
    assert "ID..." in ended.err


# --- explain


async def test_explain_a_monitor_that_is_well(shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase) -> None:
    proxy = proxy_row(auth=True, username="u", password=SECRET)
    await empty_sqlite_db.insert("proxies", proxy)
    await empty_sqlite_db.insert(
        "monitors", a_monitor(proxy_id=proxy["id"], config=json.dumps({"url": f"https://u:{SECRET}@example.org"}))
    )
    due_ms = cadence(MONITOR, 60).slot_from(await redis_now_ms(redis) + 30_000)
    await redis.zadd(DUE, {MONITOR: due_ms})
    await redis.set(LEADER, "host-1-na0", px=60_000)
    for written in (MONITOR, MONITOR.upper(), f" {MONITOR}\n"):
        told = await shell.explained(written)
        assert told["monitor"] == (f"'Shop', type http, every 1 min, timeout 16 s, through proxy {proxy['id']}; active")
        assert told["schedule"].startswith("due in ")
        assert told["schedule"].endswith(f", at {rfc3339(from_unix_ms(due_ms))}")
        assert told["maintenance"] == "none that is active"
        assert told["task"].startswith("none in the queue")
        assert told["leader"] == "host-1-na0"
        slots, spacing = told["next slots"].split(" (")
        assert spacing == "spread)"
        grid = cadence(MONITOR, 60)
        first_ms = min(grid.slot_from(await redis_now_ms(redis)), due_ms)
        known = {rfc3339(from_unix_ms(first_ms + n * 60_000)) for n in range(-2, 6)}
        assert len(slots.split(", ")) == 3
        assert set(slots.split(", ")) <= known


async def test_explain_a_monitor_that_nothing_is_known_of(shell: Shell) -> None:
    told = await shell.explained(new_id(), code=1)
    assert told["monitor"] == "unknown: the database has no such monitor"
    assert told["schedule"].startswith("not in it")
    assert "next slots" not in told
    assert told["leader"].startswith("nobody leads")


@pytest.mark.parametrize("id_", ["no-id", "", "é\x1b%s{}"])
async def test_explain_what_is_no_id(shell: Shell, id_: str) -> None:
    told = await shell.explained(id_, code=1)
    assert told["monitor"]
    assert "active" not in told["monitor"]


async def test_explain_a_monitor_that_is_not_active(shell: Shell, empty_sqlite_db: SqliteDatabase) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor(active=False))
    told = await shell.explained(code=1)
    assert told["monitor"].endswith("; NOT ACTIVE, so it gets no check")
    assert "next slots" not in told


@pytest.mark.parametrize("wrong", [{"interval": 0}, {"timeout": 2**40}])
async def test_explain_a_monitor_that_is_set_aside(
    shell: Shell, empty_sqlite_db: SqliteDatabase, wrong: dict[str, Any]
) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor(**wrong))
    told = await shell.explained(code=1)
    assert told["monitor"].startswith("gets no check, its row is set aside: ")
    assert next(iter(wrong)) in told["monitor"]


async def test_explain_a_monitor_under_maintenance(shell: Shell, empty_sqlite_db: SqliteDatabase) -> None:
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
    told = await shell.explained()
    assert told["maintenance"].startswith("IN ITS WINDOW NOW, checks are reported as maintenance, of 2 active")
    await empty_sqlite_db.update("maintenances", manual["id"], active=False)
    told = await shell.explained()
    assert told["maintenance"].startswith("not in a window now, of 1 active")
    assert f"{broken['id']} can't be judged: " in told["maintenance"]


async def test_explain_where_a_monitor_stands(shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor())
    now_ms = await redis_now_ms(redis)
    await redis.zadd(LEASE, {MONITOR: now_ms + 3_600_000})
    told = await shell.explained()
    assert told["schedule"].startswith("claimed by a node this moment; if that node died, it is due again in ")
    await redis.zadd(LEASE, {MONITOR: now_ms - 7_200_000})
    told = await shell.explained()
    assert told["schedule"].startswith("was claimed by a node that has not settled it for 2 h")
    await redis.delete(LEASE)
    await redis.zadd(DUE, {MONITOR: now_ms - 7_200_000})
    told = await shell.explained()
    assert told["schedule"] == "OVERDUE for 2 h: no producer claims it; is one running?"


@pytest.mark.parametrize("due_ms", [10**18, float("inf")])
async def test_a_score_that_is_no_instant(
    shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase, due_ms: float
) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor())
    await redis.zadd(DUE, {MONITOR: due_ms})
    text = await shell.told("status")
    assert MONITOR in text
    json.loads(await shell.told("status", "--json"))
    assert (await shell.explained())["schedule"]


@pytest.mark.parametrize("member", [b"\xff", b"\x1b[31m\r\n"])
async def test_an_id_that_is_no_text_for_a_terminal(shell: Shell, redis: Redis, member: bytes) -> None:
    await redis.zadd(DUE, {member: 10**13})
    assert len(json.loads(await shell.told("status", "--json"))["next_runs"]) == 1
    text = await shell.told("status")
    assert text.replace("\n", "").isprintable()


async def test_explain_what_became_of_the_task(shell: Shell, redis: Redis, empty_sqlite_db: SqliteDatabase) -> None:
    await empty_sqlite_db.insert("monitors", a_monitor())
    cases = [
        ("pending", "waits for a worker, queued "),
        ("active", "is being run by a worker"),
        ("orphaned", "was taken by a worker that has died; the next check takes its place"),
        ("archived", "stands as 'archived' in asynq; the next check takes its place"),
        ("malformed", "stands as 'pondering' in asynq; the next check takes its place"),
    ]
    for state, words in cases:
        await redis.flushall()
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
    told = await shell.explained()
    assert told["queue"] == "no worker takes checks from the queue"
    assert told["leader"] == "producer-4711 (a Go producer)"
    assert told["next slots"].endswith(f"({Spacing.ALIGNED.value})")
    told = await shell.explained(PRODUCER_SCHEDULE="spread")
    assert told["next slots"].endswith(f"({Spacing.SPREAD.value})")
    await redis.set(keys.PAUSED, 1)
    assert (await shell.explained())["queue"] == "the queue is paused, checks wait until it is resumed"


# --- something is away, or wrong


async def test_explain_tells_the_rest_while_the_database_is_away(shell: Shell, redis: Redis, tmp_path: Path) -> None:
    await redis.zadd(DUE, {MONITOR: await redis_now_ms(redis) + 3_600_000})
    with free_port() as port:
        server = on_postgres(port)
        told = await shell.explained(code=1, **server)
    assert told["monitor"].startswith("can't be read: database: ")
    assert told["schedule"].startswith("due in ")
    assert told["task"].startswith("none in the queue")


async def test_run_now_while_the_database_is_away(shell: Shell, redis: Redis) -> None:
    with free_port() as port:
        server = on_postgres(port)
        ended = await shell.run("run-now", MONITOR, **server)
    assert (ended.code, ended.out) == (1, "")
    (problem,) = ended.problems
    assert problem.startswith("peekaping-producer: database: ")
    assert not await redis.exists(DUE)


async def test_status_needs_no_database(shell: Shell) -> None:
    with free_port() as port:
        server = on_postgres(port)
        assert "leader     nobody" in await shell.told("status", **server)


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
    shell: Shell, own_redis_server: EmbeddedRedis, arguments: tuple[str, ...]
) -> None:
    own_redis_server.pause()
    ended = await shell.run(*arguments, REDIS_PORT=own_redis_server.port)
    assert (ended.code, ended.out) == (1, "")
    (problem,) = ended.problems
    assert "no answer within" in problem


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
async def test_a_refused_password_is_the_operator_s_to_mend(
    shell: Shell, own_redis_server: EmbeddedRedis, arguments: tuple[str, ...]
) -> None:
    async with connected(own_redis_server.port) as client:
        await client.config_set("requirepass", "another one")
    ended = await shell.run(*arguments, REDIS_PORT=own_redis_server.port, REDIS_PASSWORD=SECRET)
    assert (ended.code, ended.out) == (2, "")
    (problem,) = ended.problems
    assert "REDIS_PASSWORD" in problem


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
async def test_wrong_settings_are_told_in_a_line_each(shell: Shell, arguments: tuple[str, ...]) -> None:
    ended = await shell.run(*arguments, **on_postgres(99_999), REDIS_PASSWORD=SECRET, REDIS_DB="99")
    assert (ended.code, ended.out) == (2, "")
    assert [line.split()[:2] for line in ended.problems] == [
        ["peekaping-producer:", variable] for variable in ("DB_PORT", "REDIS_DB")
    ]


@pytest.mark.parametrize("arguments", COMMANDS[1:], ids=lambda arguments: arguments[0])
async def test_a_file_that_is_no_database_is_the_operator_s_to_mend(
    shell: Shell, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "notes.txt").write_text("not a database " * 100)
    ended = await shell.run(*arguments, DB_NAME=tmp_path / "notes.txt")
    assert (ended.code, ended.out) == (2, "")
    (problem,) = ended.problems
    assert "not an SQLite file" in problem


async def test_on_postgres_too(shell: Shell, redis: Redis, empty_postgres_db: PostgresDatabase) -> None:
    await empty_postgres_db.insert("monitors", a_monitor())
    server = on_postgres(empty_postgres_db.server.port, DB_USER=SUPERUSER, DB_NAME=empty_postgres_db.name)
    assert await shell.told("run-now", MONITOR, **server) == f"{MONITOR}: due now\n"
    told = await shell.explained(**server)
    assert told["monitor"] == "'Shop', type http, every 1 min, timeout 16 s; active"
