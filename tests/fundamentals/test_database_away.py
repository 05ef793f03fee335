"""The database away, for a while or from the start: checks go on, nothing is lost, nothing comes twice."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from peekaping_producer.demo.clock import now_ms
from peekaping_producer.embedded import EmbeddedRedis
from support.databases import PostgresDatabase, monitor_row, new_id, postgres_database, sqlite_copy
from support.outages import Scene, scene
from support.postgres import Postgres
from support.producer import Producer, started

AWAY = "database unavailable, retrying"
BACK = "database available again"
SUMMARY = "summary"
BACK_WITHIN_MS = 10_000
"""Changes count again so soon after the end of an outage."""


@pytest.fixture
async def own_db(own_postgres_server: Postgres) -> PostgresDatabase:
    """Make a bare database on a server that the test may stop and freeze."""
    return await postgres_database(own_postgres_server, rows=False)


async def two_nodes_that_know_all(stage: Scene, ids: Sequence[str]) -> tuple[Producer, Producer]:
    """Start two, each of which has read every monitor by itself."""
    first = await stage.start()
    await stage.until_each_has_run(ids)
    second = await stage.start()
    await second.until_logged("producer starting")
    first.signal(signal.SIGSTOP)
    # What the first holds comes back by reclaim, which the second does.
    await stage.until_each_has_run(ids)
    first.signal(signal.SIGCONT)
    return first, second


@pytest.mark.parametrize(("how", "period_s"), [("stop", 4), ("freeze", 8)])
async def test_an_outage_costs_no_check_and_doubles_none(
    own_db: PostgresDatabase, redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path, how: str, period_s: int
) -> None:
    rows = [monitor_row(interval=period_s) for _ in range(60)]
    push = [monitor_row(interval=period_s, type="push") for _ in range(3)]
    doomed = monitor_row(interval=period_s)
    push_ids, deleted = [row["id"] for row in push], doomed["id"]
    async with scene(tmp_path, own_db, redis, redis_server.port, rows, [*push, doomed]) as stage:
        nodes = await two_nodes_that_know_all(stage, [*stage.monitors, *push_ids, deleted])
        began_ms = now_ms()
        await stage.until_each_has_run(stage.monitors)

        server = own_db.server
        if how == "stop":
            server.stop()
        else:
            server.pause()
        away_ms = now_ms()
        unknown = new_id()
        await stage.make_due(unknown)
        for _ in range(12 // period_s + 1):
            await stage.until_each_has_run(stage.monitors)
        back_ms = now_ms()
        if how == "stop":
            server.restart()
        else:
            server.resume()
        await own_db.insert("monitors", monitor_row(id=unknown, interval=period_s))
        await own_db.delete("monitors", deleted)

        for _ in range(2):
            await stage.until_each_has_run([*stage.monitors, *push_ids])
        ended_ms = now_ms()
        await stage.until(lambda: now_ms() > back_ms + BACK_WITHIN_MS + period_s * 1000, "edits count again")
        totals = stage.judged(began_ms, ended_ms)
        for node in nodes:
            assert await node.stop() == 0

    assert (totals.missed, totals.doubled) == (0, 0)
    assert totals.runs >= 60 * 5
    # A frozen database that is read as it freezes answers nothing; what had been read before may yet be settled.
    assert stage.runs_between(push_ids, away_ms + 200, back_ms) == 0
    assert stage.runs_between(push_ids, back_ms, ended_ms) >= len(push_ids)
    assert stage.runs_between([unknown], away_ms, back_ms) == 0
    assert stage.last_run_ms(unknown) > back_ms
    assert away_ms < stage.last_run_ms(deleted) < back_ms + BACK_WITHIN_MS
    served = 0
    for node in nodes:
        assert len(node.logged(AWAY)) == 1
        (back,) = node.logged(BACK)
        assert 0 < back["away_s"] < (back_ms - away_ms) / 1000 + BACK_WITHIN_MS / 1000
        served += back["checks_from_copy"]
        summaries = [line for line in node.logged(SUMMARY) if "checks_from_copy" in line]
        assert sum(line["checks_from_copy"] for line in summaries) == back["checks_from_copy"]
        assert all(0 < line["oldest_copy_s"] < 120 for line in summaries)
        assert node.err == ""
    assert served >= stage.runs_between(stage.monitors, away_ms + 4000, back_ms)


async def test_what_one_node_does_not_know_another_checks(
    own_db: PostgresDatabase, redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path
) -> None:
    rows = [monitor_row(interval=10) for _ in range(40)]
    async with scene(tmp_path, own_db, redis, redis_server.port, rows) as stage:
        knowing = await stage.start()
        await stage.until_each_has_run(stage.monitors)
        ignorant = await stage.start()
        await ignorant.until_logged("another node leads")
        began_ms = now_ms()
        own_db.server.stop()
        for _ in range(2):
            await stage.until_each_has_run(stage.monitors)
        totals = stage.judged(began_ms, now_ms())
        for node in (knowing, ignorant):
            assert await node.stop() == 0

    assert (totals.missed, totals.doubled) == (0, 0)
    summary = ignorant.logged(SUMMARY)[-1]
    assert summary["checks"]["database_unavailable"] > 0
    assert knowing.logged(SUMMARY)[-1]["checks_from_copy"] >= 40


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
    redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path
) -> None:
    """The journal of a file in WAL mode needs a place, unless whoever writes to it has made one already."""
    folder = tmp_path / "data"
    folder.mkdir()
    database = sqlite_copy(folder, rows=True)
    with database.connected() as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    folder.chmod(0o555)
    launcher = [sys.executable, "-c", _UNPRIVILEGED]
    variables: dict[str, Any] = {"DB_TYPE": "sqlite", "DB_NAME": database.path, "REDIS_PORT": redis_server.port}
    async with started(tmp_path, launcher=launcher, **variables) as node:
        line = await node.until_logged(AWAY)
        assert str(database.path) in line["reason"]
        folder.chmod(0o755)
        await node.until_logged(BACK)
        await node.until_logged("sweep finished")
        assert await node.stop() == 0


async def test_it_starts_by_itself_when_a_database_that_was_away_comes_back(
    own_db: PostgresDatabase, redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path
) -> None:
    rows = [monitor_row(interval=3) for _ in range(10)]
    async with scene(tmp_path, own_db, redis, redis_server.port, rows) as stage:
        own_db.server.stop()
        for id_ in stage.monitors:
            await stage.make_due(id_)
        node = await stage.start()
        line = await node.until_logged(AWAY)
        assert f"DB_PORT {own_db.server.port}" in line["reason"]
        own_db.server.restart()
        await node.until_logged(BACK)
        await stage.until_each_has_run(stage.monitors)
        assert await node.stop() == 0
    assert len(node.logged(AWAY)) == 1
    assert stage.runs_between(stage.monitors, 0, now_ms()) >= 10
