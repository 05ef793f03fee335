"""The database is unavailable, for a while or from the start: checks go on, nothing is lost, nothing comes twice."""

import asyncio
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from peekaping_producer.demo.clock import now_ms
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.redisdb.keys import DUE
from peekaping_producer.report.status import read_status
from peekaping_producer.timing import Timing
from support.api_events import publish_created, publish_deleted
from support.database_fixtures import on_own_server
from support.databases import (
    Database,
    Kind,
    PostgresDatabase,
    ServerDatabase,
    SqliteDatabase,
    ids_are,
    monitor_row,
    sqlite_copy,
)
from support.fleet import addressed
from support.ledger import Ledger, working
from support.producer import Producer, started
from support.schedule import is_not_scheduled
from support.server_process import ServerProcess
from support.waiting import until

UNAVAILABLE = "database unavailable"
BACK = "database recovered"
SUMMARY = "summary"
BACK_WITHIN_MS = 10_000
"""Changes count again so soon after the end of an outage."""
IN_FLIGHT_MS = 500
"""What was read just before the outage is settled within this."""


def node(folder: Path, database: Database, redis_port: int) -> AbstractAsyncContextManager[Producer]:
    """Run one producer."""
    return started(folder, **addressed(database, redis_port))


@asynccontextmanager
async def two_that_know_all(
    folder: Path, database: Database, redis_port: int, ledger: Ledger, ids: Sequence[str]
) -> AsyncIterator[tuple[Producer, Producer]]:
    """Run two producers, each of which has read every monitor by itself."""
    async with node(folder, database, redis_port) as first:
        await ledger.until_ran(ids, now_ms())
        async with node(folder, database, redis_port) as second:
            await second.until_logged("another node leads")
            first.signal(signal.SIGSTOP)
            # What the first holds comes back by reclaim, which the second does.
            await ledger.until_ran(ids, now_ms())
            first.signal(signal.SIGCONT)
            # Thawed, it takes its own batch for late and the database for slow, until its probe has read it.
            await ledger.until_ran(ids, now_ms(), times=2)
            yield first, second


def lockable(folder: Path) -> SqliteDatabase:
    """Make a bare file that can be locked: in WAL mode hardly anything locks readers out."""
    database = sqlite_copy(folder, rows=False)
    with database.connected() as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    return database


def bare(kind: Kind, folder: Path) -> AbstractAsyncContextManager[Database]:
    """Make a bare database of a kind that can be made unavailable."""
    return nullcontext(lockable(folder)) if kind == "sqlite" else on_own_server(kind, rows=False)


@contextmanager
def locked(database: SqliteDatabase) -> Iterator[sqlite3.Connection]:
    """Lock everybody else out of a file for the duration of the block, whose changes count from its end."""
    with database.connected() as holder:
        holder.isolation_level = None
        holder.execute("BEGIN EXCLUSIVE")
        yield holder
        holder.execute("COMMIT")


@asynccontextmanager
async def unavailable(database: Database, how: str) -> AsyncIterator[None]:
    """Make a database unavailable for the duration of the block: stopped, frozen, or (a SQLite file) locked."""
    if isinstance(database, SqliteDatabase):
        with locked(database):
            yield
        return
    server = cast("ServerDatabase", database).server
    assert isinstance(server, ServerProcess)
    if how == "stop":
        server.stop()
        yield
        server.restart()
    else:
        server.pause()
        yield
        server.resume()


KINDS: dict[str, list[Kind]] = {
    "stop": ["postgres", "mysql", "mongo", "sqlite"],
    "freeze": ["postgres", "mysql", "mongo"],
}
PERIOD_S = 6
OUTAGE_S = 20
BUSY_MS = 1_000
"""A machine that was this busy just after a thaw may have made a database too slow for a batch once more."""


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", KINDS)
async def test_an_outage_costs_no_check_and_doubles_none(tmp_path: Path, how: str) -> None:
    """Fleets side by side, each of two nodes and a database of one kind: outages take their time."""
    async with asyncio.TaskGroup() as fleets:
        for kind in KINDS[how]:
            folder = tmp_path / kind
            folder.mkdir()
            fleets.create_task(outlives_an_outage(kind, how, folder), name=kind)


async def outlives_an_outage(kind: Kind, how: str, folder: Path) -> None:
    """Let two nodes live through an outage, and judge each check of theirs."""
    with ids_are(kind):
        rows = [monitor_row(interval=PERIOD_S) for _ in range(20)]
        push = [monitor_row(interval=PERIOD_S, type="push") for _ in range(3)]
        doomed, new = monitor_row(interval=PERIOD_S), monitor_row(interval=PERIOD_S)
        deleted, deleted_within = monitor_row(interval=PERIOD_S), monitor_row(interval=PERIOD_S)
    ids, push_ids = [row["id"] for row in rows], [row["id"] for row in push]
    with RedisServer(tcp=True) as redis_server:
        port = redis_server.port
        async with (
            bare(kind, folder) as database,
            Redis(host=HOST, port=port, client_name="test") as redis,
            working(port, folder) as ledger,
        ):
            others = (doomed, deleted, deleted_within)
            await database.insert("monitors", *rows, *push, *others)
            known = [*ids, *push_ids, *(row["id"] for row in others)]
            async with two_that_know_all(folder, database, port, ledger, known) as nodes:
                logged_before = [{event: len(one.logged(event)) for event in (UNAVAILABLE, BACK)} for one in nodes]
                began_ms = now_ms()
                await ledger.until_ran(ids, began_ms)
                await database.delete("monitors", deleted["id"])
                await until_removed(redis, deleted["id"])
                gone_ms = {deleted["id"]: now_ms()}
                await database.delete("monitors", deleted_within["id"])

                async with unavailable(database, how):
                    unavailable_ms = now_ms()
                    await redis.zadd(DUE, {new["id"]: unavailable_ms})
                    await until_removed(redis, deleted_within["id"])
                    gone_ms[deleted_within["id"]] = now_ms()
                    await until(lambda: status_shows_checks_from_the_cache(redis), "status shows checks from the cache")
                    for _ in range(3):
                        # As a sweep that was under way would.
                        await redis.zadd(DUE, gone_ms, nx=True)
                        await ledger.until_ran(ids, now_ms())
                    await ledger.until_ran(ids, unavailable_ms + OUTAGE_S * 1000, within_s=OUTAGE_S)
                    back_ms = now_ms()
                await database.insert("monitors", new)
                # A node may have looked for it just before, and found no row.
                await publish_created(redis, new)
                await database.delete("monitors", doomed["id"])

                await ledger.until_ran([*ids, *push_ids, new["id"]], now_ms(), times=2)
                ended_ms = now_ms()
                settled_ms = back_ms + BACK_WITHIN_MS + PERIOD_S * 1000
                await ledger.until(lambda: now_ms() > settled_ms, lambda: "time goes by")
                for one in nodes:
                    assert await one.stop() == 0

    def runs(of: Sequence[str], from_ms: int, to_ms: int) -> int:
        return sum(from_ms < at_ms < to_ms for id_ in of for at_ms in ledger.scheduled(id_))

    verdict = ledger.verdict(rows, began_ms, ended_ms, slow_excused=False)
    assert (kind, verdict.missed, verdict.doubled) == (kind, (), ())
    assert verdict.runs >= len(rows) * OUTAGE_S / PERIOD_S
    assert runs(push_ids, unavailable_ms + IN_FLIGHT_MS, back_ms) == 0
    assert runs([new["id"]], 0, back_ms) == 0
    assert [id_ for id_, at_ms in gone_ms.items() if ledger.scheduled(id_)[-1] > at_ms] == []
    assert unavailable_ms < ledger.scheduled(doomed["id"])[-1] < back_ms + BACK_WITHIN_MS
    served = 0
    for one, before in zip(nodes, logged_before, strict=True):
        outages, recoveries = (len(one.logged(event)) - before[event] for event in (UNAVAILABLE, BACK))
        assert outages == recoveries >= 1, (kind, str(one.lines))
        assert outages == 1 or (how == "freeze" and ledger.lost_ms(back_ms) > BUSY_MS), (kind, str(one.lines))
        ends = one.logged(BACK)[before[BACK] :]
        assert all(0 < end["outage_s"] < (ended_ms - unavailable_ms) / 1000 for end in ends)
        from_cache = sum(end["checks_from_cache"] for end in ends)
        summaries = [line for line in one.logged(SUMMARY) if "from_cache" in line["checks"]]
        assert sum(line["checks"]["from_cache"] for line in summaries) >= from_cache > 0
        served += from_cache
        assert all(line["cache_age_s"] > 0 for line in summaries)
        assert one.err == ""
    assert served >= runs(ids, unavailable_ms + 4_000, back_ms)


async def status_shows_checks_from_the_cache(redis: Redis) -> bool:
    """Return whether `status` says that each node serves from its cache."""
    status = await read_status(redis, Timing())
    return sum("served from the cache, up to" in what for what in status.trouble) == len(status.nodes)


async def until_removed(redis: Redis, id_: str) -> None:
    """Publish that a monitor was deleted, and wait until that has been acted on."""
    assert await publish_deleted(redis, id_) >= 1
    await until(lambda: is_not_scheduled(redis, id_), "the event has been acted on")


@pytest.mark.long
async def test_edits_made_in_an_outage_arrive_soon_after_its_end(redis_server: RedisServer, tmp_path: Path) -> None:
    """With no event, and made longer ago than a poll for changes goes back by itself."""
    known, activated = monitor_row(interval=4), monitor_row(interval=3_600, active=False)
    database, port = lockable(tmp_path), redis_server.port
    await database.insert("monitors", known, activated)
    async with working(port, tmp_path) as ledger, node(tmp_path, database, port) as one:
        await ledger.until_ran([known["id"]], 0)
        edit = "UPDATE monitors SET active = 1, updated_at = strftime('%Y-%m-%d %H:%M:%f+00:00', 'now') WHERE id = ?"
        with locked(database) as holder:
            holder.execute(edit, [activated["id"]])
            await ledger.until_ran([known["id"]], now_ms() + Timing().changes_overlap_s * 1000 + 2_000)
        back_ms = now_ms()
        await ledger.until_ran([activated["id"]], back_ms - 1)
        assert await one.stop() == 0
    assert one.logged(UNAVAILABLE)
    assert ledger.scheduled(activated["id"])[0] < back_ms + BACK_WITHIN_MS


@pytest.mark.long
async def test_what_one_node_does_not_know_another_checks(
    own_db: PostgresDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    rows = [monitor_row(interval=10) for _ in range(40)]
    ids, port = [row["id"] for row in rows], redis_server.port
    await own_db.insert("monitors", *rows)
    async with working(port, tmp_path) as ledger, node(tmp_path, own_db, port) as knowing:
        await ledger.until_ran(ids, now_ms())
        async with node(tmp_path, own_db, port) as ignorant:
            await ignorant.until_logged("another node leads")
            began_ms = now_ms()
            own_db.server.stop()
            await ledger.until_ran(ids, now_ms(), times=2)
            ended_ms = now_ms()
            for one in (knowing, ignorant):
                assert await one.stop() == 0

    verdict = ledger.verdict(rows, began_ms, ended_ms)
    assert (verdict.missed, verdict.doubled) == ((), ())
    assert ignorant.logged(SUMMARY)[-1]["checks"]["deferred_not_cached"] > 0
    assert sum(line["checks"].get("from_cache", 0) for line in knowing.logged(SUMMARY)) >= len(ids)


@pytest.mark.parametrize("kind", KINDS["stop"])
async def test_it_starts_by_itself_when_an_unavailable_database_recovers(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, kind: Kind
) -> None:
    with ids_are(kind):
        rows = [monitor_row(interval=3) for _ in range(10)]
    ids = [row["id"] for row in rows]
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(bare(kind, tmp_path))
        await database.insert("monitors", *rows)
        ledger = await stack.enter_async_context(working(redis_server.port, tmp_path))
        async with unavailable(database, "stop"):
            await redis.zadd(DUE, dict.fromkeys(ids, now_ms()))
            one = await stack.enter_async_context(node(tmp_path, database, redis_server.port))
            line = await one.until_logged(UNAVAILABLE)
        await one.until_logged(BACK)
        await ledger.until_ran(ids, now_ms())
        assert await one.stop() == 0
    assert ("DB_NAME" if kind == "sqlite" else "DB_PORT") in line["reason"]
    assert len(one.logged(UNAVAILABLE)) == 1


_UNPRIVILEGED = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a program to which file modes apply, even as root."""


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux'")
async def test_an_sqlite_file_in_a_folder_that_is_read_only_is_waited_for(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    """The journal of a file in WAL mode needs a place, unless its writer has made one already."""
    folder = tmp_path / "data"
    folder.mkdir()
    database = sqlite_copy(folder, rows=True)
    with database.connected() as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    folder.chmod(0o555)
    launcher = [sys.executable, "-c", _UNPRIVILEGED]
    variables: dict[str, Any] = {"DB_TYPE": "sqlite", "DB_NAME": database.path, "REDIS_PORT": redis_server.port}
    async with started(tmp_path, launcher=launcher, **variables) as one:
        line = await one.until_logged(UNAVAILABLE)
        assert str(database.path) in line["reason"]
        folder.chmod(0o755)
        await one.until_logged(BACK)
        await one.until_logged("sweep finished")
        assert await one.stop() == 0
