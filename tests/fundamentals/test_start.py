"""The start before what the producer needs is there: it waits, says for what, and goes on by itself."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from peekaping_producer.config.settings import Settings
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.timing import Timing
from support.databases import Database, MongoDatabase, SqliteDatabase, monitor_row, sqlite_copy
from support.fleet import addressed
from support.producer import WITHIN_S, producing, run_to_the_end, started

DATABASE_UNAVAILABLE, DATABASE_BACK = "database unavailable", "database recovered"
REDIS_UNAVAILABLE, REDIS_BACK = "redis unavailable", "redis recovered"
SWEPT = "sweep finished"
QUICK = Timing(claim_wait_s=0.05, election_every_s=0.05, retry_first_s=0.02, retry_cap_s=0.05)
REMINDING = Timing(retry_first_s=0.01, retry_cap_s=0.02, start_remind_every_s=0.1)


def with_redis(database: Database, server: RedisServer) -> Settings:
    return database.settings(redis_host=HOST, redis_port=server.port)


async def test_tables_that_migrations_make_later_are_waited_for(
    any_sql_db: Database, redis_server: RedisServer, redis: Redis
) -> None:
    await any_sql_db.insert("monitors", monitor_row())
    await any_sql_db.execute("ALTER TABLE heartbeats RENAME TO later; ALTER TABLE monitors RENAME COLUMN config TO cfg")
    async with producing(with_redis(any_sql_db, redis_server), QUICK) as producer:
        reason = (await producer.until_logged(DATABASE_UNAVAILABLE))["reason"]
        assert "table heartbeats" in reason
        assert "column monitors.config" in reason
        assert "migrations" in reason
        await any_sql_db.execute("ALTER TABLE later RENAME TO heartbeats")
        still = await producer.until_logged("database still unavailable")
        assert "table heartbeats" not in still["reason"]
        assert "column monitors.config" in still["reason"]
        await any_sql_db.execute("ALTER TABLE monitors RENAME COLUMN cfg TO config")
        await producer.until_logged(DATABASE_BACK)
        await producer.until_logged(SWEPT)


async def test_collections_that_come_later_are_waited_for(
    empty_mongo_db: MongoDatabase, redis_server: RedisServer, redis: Redis
) -> None:
    later = MongoDatabase(empty_mongo_db.server, f"{empty_mongo_db.name}_later")
    async with producing(with_redis(later, redis_server), QUICK) as producer:
        assert "collection monitor," in (await producer.until_logged(DATABASE_UNAVAILABLE))["reason"]
        await later.insert("monitors", monitor_row())
        await producer.until_logged(SWEPT)
    async with later.connected() as collections:
        await collections.client.drop_database(later.name)


async def test_an_empty_file_that_is_migrated_later(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    later = SqliteDatabase(tmp_path / "later.sqlite")
    later.path.touch()
    async with started(tmp_path, **addressed(later, redis_server.port)) as producer:
        line = await producer.until_logged(DATABASE_UNAVAILABLE)
        assert line["level"] == "warning"
        for table in ("monitors", "proxies", "maintenances", "monitor_maintenances", "heartbeats"):
            assert f"table {table}" in line["reason"]
        _migrate(later, sqlite_copy(tmp_path, rows=True, name="whole.sqlite"))
        await producer.until_logged(SWEPT)
        assert await producer.stop() == 0


def _migrate(database: SqliteDatabase, whole: SqliteDatabase) -> None:
    """Make the tables of `whole` with their rows, one statement after the other, as migrations do."""
    with whole.connected() as source, contextlib.closing(sqlite3.connect(database.path)) as target:
        for statement in source.iterdump():
            if not statement.startswith(("BEGIN", "COMMIT")):
                target.execute(statement)
                target.commit()


async def test_a_locked_file_is_waited_for(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    database = sqlite_copy(tmp_path, rows=True)
    with database.connected() as holder:
        holder.isolation_level = None
        holder.execute("PRAGMA journal_mode = DELETE")
        holder.execute("BEGIN EXCLUSIVE")
        async with producing(with_redis(database, redis_server), QUICK) as producer:
            assert "locked" in (await producer.until_logged(DATABASE_UNAVAILABLE))["reason"]
            holder.execute("COMMIT")
            await producer.until_logged(SWEPT)


@pytest.fixture
def changeable_redis() -> Iterator[RedisServer]:
    config = ("--enable-protected-configs", "yes", "--enable-debug-command", "yes", "--save", "3600 1")
    with RedisServer(tcp=True, config=config) as server:
        yield server


@contextmanager
def failed_save(server: RedisServer) -> Iterator[None]:
    """Let Redis fail to save its data, for the duration of the block: it refuses writes, and pings."""
    blocked = server.unix_socket.parent / "blocked"
    blocked.mkdir()
    with BlockingRedis(unix_socket_path=str(server.unix_socket)) as client:
        client.config_set("dbfilename", blocked.name)
        _save(client, "err")
        yield
        blocked.rmdir()
        _save(client, "ok")


def _save(client: BlockingRedis, outcome: str) -> None:
    """Save until it has ended so: Redis judges by its last save in the background."""
    give_up = time.monotonic() + WITHIN_S
    while client.info("persistence")["rdb_last_bgsave_status"] != outcome:
        assert time.monotonic() < give_up
        with contextlib.suppress(ResponseError):  # one is under way
            client.bgsave()
        time.sleep(0.01)


@contextmanager
def lost_primary(server: RedisServer) -> Iterator[None]:
    """Make Redis a replica that has no primary and serves nothing, for the duration of the block."""
    with BlockingRedis(unix_socket_path=str(server.unix_socket)) as client:
        client.config_set("replica-serve-stale-data", "no")
        client.replicaof(HOST, "1")
        yield
        client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def endless_script(server: RedisServer) -> Iterator[None]:
    """Let Redis be busy with a script of somebody's, for the duration of the block."""
    with BlockingRedis(unix_socket_path=str(server.unix_socket)) as client, ThreadPoolExecutor(1) as pool:
        client.config_set("busy-reply-threshold", 10)
        script = pool.submit(client.eval, "while true do end", 0)
        with BlockingRedis(unix_socket_path=str(server.unix_socket)) as other:
            yield
            other.execute_command("SCRIPT", "KILL")
        assert isinstance(script.exception(), ResponseError)


@pytest.mark.parametrize(
    ("trouble", "advice"),
    [
        (failed_save, "free disk space"),
        (lost_primary, "point REDIS_HOST at the primary"),
        (endless_script, "SCRIPT KILL ends it"),
    ],
    ids=["MISCONF", "MASTERDOWN", "BUSY"],
)
async def test_a_redis_that_refuses_for_now_is_waited_for(
    sqlite_db: SqliteDatabase,
    changeable_redis: RedisServer,
    trouble: Callable[[RedisServer], AbstractContextManager[None]],
    advice: str,
) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(trouble(changeable_redis))
        async with producing(with_redis(sqlite_db, changeable_redis), QUICK) as producer:
            assert advice in (await producer.until_logged(REDIS_UNAVAILABLE))["reason"]
            stack.close()
            await producer.until_logged(REDIS_BACK)
            await producer.until_logged(SWEPT)


async def test_a_redis_that_is_loading_its_data_is_waited_for(
    sqlite_db: SqliteDatabase, changeable_redis: RedisServer
) -> None:
    with BlockingRedis(unix_socket_path=str(changeable_redis.unix_socket)) as client:
        client.mset({f"key-{number}": "x" * 100 for number in range(5_000)})
        client.config_set("loading-process-events-interval-bytes", 1024)
        client.config_set("key-load-delay", 5_000)
        loading = asyncio.create_task(asyncio.to_thread(client.execute_command, "DEBUG", "RELOAD"))
        async with producing(with_redis(sqlite_db, changeable_redis), QUICK) as producer:
            assert "loading" in (await producer.until_logged(REDIS_UNAVAILABLE))["reason"].lower()
            with BlockingRedis(unix_socket_path=str(changeable_redis.unix_socket)) as other:
                other.config_set("key-load-delay", 0)
            await loading
            await producer.until_logged(REDIS_BACK)
            await producer.until_logged(SWEPT)


async def test_what_it_waits_for_is_said_again(
    redis_server: RedisServer, redis: Redis, own_redis_server: RedisServer, tmp_path: Path
) -> None:
    absent = SqliteDatabase(tmp_path / "absent.sqlite")
    async with producing(with_redis(absent, redis_server), REMINDING) as producer:
        reminder = await producer.until_logged("database still unavailable", 2)
    assert "absent.sqlite" in reminder["reason"]
    assert reminder["level"] == "warning"
    assert reminder["outage_s"] >= 0.1
    own_redis_server.kill()
    async with producing(with_redis(absent, own_redis_server), REMINDING) as producer:
        assert (await producer.until_logged("redis still unavailable"))["level"] == "warning"


def test_the_reminder_comes_every_minute() -> None:
    assert Timing().start_remind_every_s == 60


@pytest.mark.parametrize("arguments", [("explain", "00000000-0000-4000-8000-000000000000")])
def test_commands_do_not_wait(redis_server: RedisServer, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    empty = SqliteDatabase(tmp_path / "empty.sqlite")
    empty.path.touch()
    ended = run_to_the_end(tmp_path, *arguments, **addressed(empty, redis_server.port))
    assert ended.code == 1
    assert "table monitors" in ended.out + ended.err


def test_no_database_imports_sqlalchemys_orm() -> None:
    """It would take a quarter of every start."""
    kinds = ("postgres", "mysql", "sqlite", "mongo")
    imported = ", ".join(["sys", "peekaping_producer.app", *(f"peekaping_producer.catalog.{kind}" for kind in kinds)])
    ended = subprocess.run(
        [sys.executable, "-c", f"import {imported}; print('sqlalchemy.orm' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "False\n"
