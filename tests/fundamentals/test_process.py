"""The process as operators meet it: how it starts, what it survives, and how it ends."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from peekaping_producer import __version__
from peekaping_producer.asynq import keys
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.redisdb.keys import CLAIMS, DUE, LEASE
from peekaping_producer.timing import Timing
from support.databases import SqliteDatabase, monitor_row, sqlite_copy
from support.producer import (
    GRACEFUL,
    WITHIN_S,
    Producer,
    command,
    environment,
    producing,
    run_to_the_end,
    started,
)
from support.schedule import scheduled_ids
from support.tcp_forwarding import serving
from support.waiting import until

REDIS_UNAVAILABLE = "redis unavailable"
REDIS_BACK = "redis recovered"
DATABASE_UNAVAILABLE = "database unavailable"
SWEPT = "sweep finished"
NOTHING_SWEPT = "sweep changed nothing"
NO_MONITOR = "no active monitor found"


def addressed(database: SqliteDatabase, server: RedisServer, **others: Any) -> dict[str, Any]:
    """Return the variables that lead to both."""
    return {"DB_TYPE": "sqlite", "DB_NAME": database.path, "REDIS_PORT": server.port, **others}


@contextmanager
def blocking(server: RedisServer) -> Iterator[BlockingRedis]:
    """Connect for what a test prepares."""
    with BlockingRedis(unix_socket_path=str(server.unix_socket)) as client:
        yield client


@contextmanager
def free_port() -> Iterator[int]:
    """Hold a port on which nothing listens."""
    with socket.socket() as held:
        held.bind((HOST, 0))
        yield held.getsockname()[1]


def make_due(client: BlockingRedis) -> None:
    """Make every waiting monitor due."""
    waiting = cast("list[bytes]", client.zrange(DUE, 0, -1))
    client.zadd(DUE, dict.fromkeys(waiting, 1), xx=True)


def assert_graceful(producer: Producer) -> None:
    assert [event for event in producer.events if event in GRACEFUL] == GRACEFUL
    assert producer.events[-1] == GRACEFUL[-1]
    assert producer.err == ""


# --- how it starts


@pytest.mark.parametrize("arguments", [("run",), ()], ids=["run", "bare"])
async def test_it_runs_and_logs_json_lines(
    sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    variables = addressed(sqlite_db, redis_server, SERVICE_NAME="checks")
    async with started(tmp_path, arguments=arguments, **variables) as producer:
        await producer.until_logged(SWEPT)
        assert await scheduled_ids(redis) == set(await sqlite_db.ids("active AND interval > 0"))
        assert await producer.stop() == 0

    assert_graceful(producer)
    assert producer.events[0] == "producer starting"
    for line in producer.lines:
        assert line.keys() >= {"time", "level", "event", "svc", "node"}
        assert line["svc"] == "checks"


async def test_the_env_file_of_its_folder_is_read(
    sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    text = "".join(f"{name}='{value}'\n" for name, value in addressed(sqlite_db, redis_server).items())
    (tmp_path / ".env").write_text(text)
    async with started(tmp_path) as producer:
        await producer.until_logged(SWEPT)


@pytest.mark.parametrize("arguments", [("--version",), ("--version", "run")])
def test_version(tmp_path: Path, arguments: Sequence[str]) -> None:
    ended = run_to_the_end(tmp_path, *arguments)
    assert (ended.code, ended.out, ended.err) == (0, f"peekaping-producer {__version__}\n", "")


def _imports_of(argument: str) -> set[str]:
    """Return the packages, beside Python's own, that the command imports before it answers."""
    script = f"""
import contextlib, io, sys
before, sys.argv[1:] = {{*sys.modules}}, [{argument!r}]
from peekaping_producer.__main__ import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
print(*{{name.partition(".")[0] for name in {{*sys.modules}} - before if sys.modules[name]}} - sys.stdlib_module_names)
"""
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_version_and_help_import_little() -> None:
    assert _imports_of("--version") == {"peekaping_producer"}
    assert _imports_of("--help").isdisjoint({"redis", "pydantic", "sqlalchemy", "structlog", "google"})


def test_everything_wrong_with_the_settings_is_said_in_a_line_each(tmp_path: Path) -> None:
    wrong = {"DB_TYPE": "postgres", "DB_HOST": "db", "DB_USER": "me", "DB_PASS": "hush", "DB_NAME": "x", "MODE": "loud"}
    ended = run_to_the_end(tmp_path, "run", **wrong, REDIS_PASSWORD="hush", REDIS_DB="99")
    assert ended.code == 2
    assert ended.out == ""
    assert [line.split()[:2] for line in ended.problems] == [
        ["peekaping-producer:", variable] for variable in ("DB_PORT", "REDIS_DB", "MODE")
    ]
    assert "hush" not in ended.err


@pytest.mark.parametrize("variables", [{"REDIS_PASSWORD": "wrong-hush"}, {}], ids=["wrong", "none"])
def test_a_password_that_redis_refuses(
    sqlite_db: SqliteDatabase, own_redis_server: RedisServer, tmp_path: Path, variables: dict[str, str]
) -> None:
    with blocking(own_redis_server) as client:
        client.config_set("requirepass", "right-hush")
    ended = run_to_the_end(tmp_path, "run", **addressed(sqlite_db, own_redis_server), **variables)
    assert ended.code == 2
    (problem,) = ended.problems
    assert "REDIS_PASSWORD" in problem
    assert "hush" not in ended.out + ended.err


async def test_a_missing_redis_at_the_start_is_logged_and_waited_for(
    sqlite_db: SqliteDatabase, own_redis_server: RedisServer, tmp_path: Path
) -> None:
    own_redis_server.kill()
    async with started(tmp_path, **addressed(sqlite_db, own_redis_server)) as producer:
        await producer.until_logged(REDIS_UNAVAILABLE)
        own_redis_server.restart()
        await producer.until_logged(REDIS_BACK)
        await producer.until_logged(SWEPT)
        assert await producer.stop() == 0
    assert_graceful(producer)
    reasons = [line["reason"] for line in producer.logged(REDIS_UNAVAILABLE)]
    assert len(reasons) == len(set(reasons))


@asynccontextmanager
async def _useless_redis(*, answers: bool) -> AsyncIterator[tuple[int, list[int]]]:
    """Listen as something that is no Redis: hangs up, or keeps silent. Give its port, and a list of the calls."""
    calls: list[int] = []

    async def call(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        calls.append(len(calls))
        if not answers:
            await reader.read()

    async with serving(call) as port:
        yield port, calls


@pytest.mark.parametrize("answers", [True, False], ids=["hangs up", "keeps silent"])
async def test_a_reason_is_logged_once_however_often_it_is_tried(sqlite_db: SqliteDatabase, answers: bool) -> None:
    timing = Timing(redis_timeout_s=0.05, retry_first_s=0.01, retry_cap_s=0.02)
    async with _useless_redis(answers=answers) as (port, calls):
        async with producing(sqlite_db.settings(redis_host=HOST, redis_port=port), timing) as producer:
            await until(lambda: len(calls) >= 10)
        assert len(producer.logged(REDIS_UNAVAILABLE)) == 1


async def test_a_database_file_that_appears_later(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    later = SqliteDatabase(tmp_path / "later.sqlite")
    async with started(tmp_path, **addressed(later, redis_server)) as producer:
        line = await producer.until_logged(DATABASE_UNAVAILABLE)
        assert "later.sqlite" in line["reason"]
        sqlite_copy(tmp_path, rows=True, name="whole.sqlite").path.rename(later.path)
        await producer.until_logged(SWEPT)
        assert await producer.stop() == 0
    assert_graceful(producer)
    assert len(producer.logged(DATABASE_UNAVAILABLE)) == 1


# --- how it ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_and_nothing_stays_claimed(
    sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path, number: signal.Signals
) -> None:
    async with started(tmp_path, **addressed(sqlite_db, redis_server)) as producer:
        await producer.until_logged(SWEPT)
        producer.signal(number)
        assert await producer.ended() == 0
    assert_graceful(producer)
    assert producer.logged(GRACEFUL[0])[0]["signal"] == number.name
    assert await redis.zcard(LEASE) == 0


async def test_a_signal_under_load_leaves_no_claim_and_loses_no_monitor(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    count = 20_000
    rows = [monitor_row() for _ in range(count)]
    await empty_sqlite_db.insert("monitors", *rows)
    await redis.zadd(DUE, {row["id"]: 1 for row in rows})

    async with started(tmp_path, **addressed(empty_sqlite_db, redis_server)) as producer:
        await producer.until_logged("batches settled")
        producer.signal(signal.SIGTERM)
        assert await producer.ended() == 0

    assert_graceful(producer)
    assert await redis.zcard(LEASE) == 0
    assert await redis.zcard(DUE) == count
    enqueued = await redis.llen(keys.PENDING)
    assert 0 < enqueued < count
    assert await redis.zcount(DUE, "(1", "+inf") == enqueued


async def test_a_second_signal_ends_it_at_once(
    sqlite_db: SqliteDatabase, own_redis_server: RedisServer, tmp_path: Path
) -> None:
    async with started(tmp_path, **addressed(sqlite_db, own_redis_server)) as producer:
        await producer.until_logged(SWEPT)
        own_redis_server.pause()
        producer.signal(signal.SIGTERM)
        await producer.until_logged(GRACEFUL[0])
        producer.signal(signal.SIGTERM)
        assert await producer.ended() == 128 + signal.SIGTERM
    assert GRACEFUL[1] not in producer.events
    assert producer.err == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_wait_for_redis(
    sqlite_db: SqliteDatabase, tmp_path: Path, number: signal.Signals
) -> None:
    with free_port() as port:
        async with started(tmp_path, DB_TYPE="sqlite", DB_NAME=sqlite_db.path, REDIS_PORT=port) as producer:
            await producer.until_logged(REDIS_UNAVAILABLE)
            producer.signal(number)
            assert await producer.ended() == 0
    assert_graceful(producer)
    assert len(producer.logged(REDIS_UNAVAILABLE)) == 1


async def test_a_log_that_nobody_reads_any_more_does_not_end_it(
    sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    variables = environment(**addressed(sqlite_db, redis_server))
    process = subprocess.Popen(command("run"), cwd=tmp_path, env=variables, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert b"producer starting" in process.stdout.readline()
        process.stdout.close()
        await _until_reached(lambda: redis.zcard(DUE))
        (first,) = cast("list[bytes]", await redis.zrange(DUE, 0, 0))
        # Each settled batch writes a line into the closed pipe.
        for times in (1, 2):
            await redis.zadd(DUE, {first: 1})
            await _until_reached(lambda: redis.get(CLAIMS), times)
        assert process.poll() is None
        process.terminate()
        assert process.wait(WITHIN_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert await redis.zcard(LEASE) == 0


async def _until_reached(read: Callable[[], Awaitable[Any]], at_least: int = 1) -> None:
    """Wait until a figure in Redis has grown this far."""
    async with asyncio.timeout(WITHIN_S):
        while int(await read() or 0) < at_least:
            await asyncio.sleep(0.01)


# --- what it survives


QUICK = Timing(
    claim_wait_s=0.05, reclaim_every_s=0.05, sweep_every_s=0.1, share=0, election_every_s=0.05, retry_cap_s=0.2
)


async def test_the_schedule_is_whole_again_after_redis_lost_its_data(
    sqlite_db: SqliteDatabase, own_redis_server: RedisServer
) -> None:
    count = len(await sqlite_db.ids("active AND interval > 0"))
    settings = sqlite_db.settings(redis_host=HOST, redis_port=own_redis_server.port)
    # The next sweep by the clock would come too late.
    timing = Timing(claim_wait_s=0.05, election_every_s=0.05, sweep_every_s=600, retry_cap_s=0.2)
    async with producing(settings, timing) as producer:
        await producer.until_logged(SWEPT)
        own_redis_server.restart()
        await producer.until_logged(SWEPT, 2)
        with blocking(own_redis_server) as client:
            await until(lambda: int(client.zcard(DUE)) == count)
            make_due(client)
            await until(lambda: client.llen(keys.PENDING) == count)
    assert producer.lines[-1]["event"] == GRACEFUL[1]


async def test_a_frozen_redis_is_logged_once_and_work_goes_on_when_it_answers(
    sqlite_db: SqliteDatabase, own_redis_server: RedisServer
) -> None:
    timing = Timing(claim_wait_s=0.05, reclaim_every_s=0.05, redis_timeout_s=1, retry_cap_s=0.2)
    settings = sqlite_db.settings(redis_host=HOST, redis_port=own_redis_server.port)
    async with producing(settings, timing) as producer:
        await producer.until_logged(SWEPT)
        own_redis_server.pause()
        try:
            await producer.until_logged(REDIS_UNAVAILABLE)
        finally:
            own_redis_server.resume()
        await producer.until_logged(REDIS_BACK)
        with blocking(own_redis_server) as client:
            make_due(client)
            await until(lambda: client.llen(keys.PENDING) >= 1)
    assert len(producer.logged(REDIS_UNAVAILABLE)) == len(producer.logged(REDIS_BACK)) == 1


async def test_that_there_is_nothing_to_check_is_said_once(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis
) -> None:
    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=redis_server.port)
    async with producing(settings, QUICK) as producer:
        await producer.until_logged(NOTHING_SWEPT, 3)
        assert len(producer.logged(NO_MONITOR)) == 1
        await empty_sqlite_db.insert("monitors", monitor_row())
        await producer.until_logged(SWEPT)
    assert len(producer.logged(NO_MONITOR)) == 1


async def test_invalid_rows_are_logged_once_and_affect_no_other(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis
) -> None:
    good = [monitor_row(interval=1) for _ in range(3)]
    never = [monitor_row(interval=0), monitor_row(interval=-1), monitor_row(interval=2**31)]
    never += [monitor_row(interval="often"), monitor_row(id="Not-A-UUID")]
    unreadable = [monitor_row(interval=1, timeout=2**40), monitor_row(interval=1, name=b"\xff\xfe")]
    unreadable += [monitor_row(interval=1)]
    await empty_sqlite_db.insert("monitors", *good, *never, *unreadable)
    bytes_id = unreadable[-1]["id"]
    with empty_sqlite_db.connected() as connection:
        connection.execute("UPDATE monitors SET name = CAST(x'ff41' AS TEXT) WHERE id = ?", [bytes_id])

    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=redis_server.port)
    async with producing(settings, Timing(sweep_every_s=0.1, share=0)) as producer:
        began_s, calls_before = time.monotonic(), await _scripts_run(redis)
        # Each monitor of one second has been due two times and more by then.
        sweeps_before = len(_sweeps(producer.lines))
        await until(lambda: len(_sweeps(producer.lines)) >= sweeps_before + 25)
        calls, lasted_s = await _scripts_run(redis) - calls_before, time.monotonic() - began_s

        pending = set(cast("list[bytes]", await redis.lrange(keys.PENDING, 0, -1)))
        assert pending == {f"healthcheck:{row['id']}".encode() for row in good}

    # Sweeps, claims of a few slots a second, reclaims; a hot loop runs thousands.
    assert calls / lasted_s < 60
    logged = [line["reasons"] for line in producer.lines if "reasons" in line]
    assert sorted(id_ for reasons in logged for id_ in reasons) == sorted(row["id"] for row in never + unreadable)
    assert not [line for line in producer.lines if line["level"] == "error"]


def _sweeps(lines: list[dict[str, object]]) -> list[dict[str, object]]:
    return [line for line in lines if line["event"] in {SWEPT, NOTHING_SWEPT}]


async def _scripts_run(redis: Redis) -> int:
    """Return how many scripts Redis has run since its start."""
    stats = await redis.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])


async def test_an_idle_producer_is_quiet_whatever_its_concurrency(
    sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    await sqlite_db.execute("UPDATE monitors SET interval = 1000000000 WHERE interval > 0")
    async with started(tmp_path, **addressed(sqlite_db, redis_server, PRODUCER_CONCURRENCY=128)) as producer:
        await producer.until_logged(SWEPT)
        began_s, before = time.monotonic(), await _scripts_run(redis)
        await _until_reached(lambda: _scripts_run(redis), before + 8)
        rate = (await _scripts_run(redis) - before) / (time.monotonic() - began_s)
        ours = [client for client in await redis.client_list() if client["name"] == "peekaping-producer"]
    assert rate <= 5
    assert 1 <= len(ours) <= 8
