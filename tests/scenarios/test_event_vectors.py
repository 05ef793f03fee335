"""Every message that the real API server published, in its order, with the row as the real database held it then."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.leader.event_message import CREATED
from peekaping_producer.timing import Timing
from support.databases import Database, Row, proxy_row
from support.ledger import Ledger, working
from support.producer import InProcess, producing
from support.redis_time import redis_now_ms, until_ms
from support.schedule import scheduled_ids
from support.waiting import until
from vectors.vectors import load

EVENTS_ALONE = Timing(claim_wait_s=0.05, sweep_every_s=600, changes_every_s=600, reread_after_s=(0.3, 1.0))
LAST_BEFORE_DELETES = 37
"""With the step after it, the monitors of the recording begin to go."""


class Replay:
    """One recorded run, made again on a database of its kind."""

    def __init__(self, database: Database, redis: Redis) -> None:
        """Begin with an empty database."""
        self._database, self._redis = database, redis
        self.rows: dict[str, Row] = {}
        self._proxies: set[str] = set()
        self.steps: list[dict[str, Any]] = next(
            run["steps"] for run in load("events")["runs"] if run["database"] == database.kind
        )

    async def step(self, step: dict[str, Any]) -> None:
        """Bring the row to where it was after the step, and publish what the step did."""
        if step["monitor_id"]:
            await self._write(step["monitor_id"], step["row_after"])
        for event in step["events"]:
            await self._redis.publish(event["channel"], event["data"])

    async def _write(self, id_: str, recorded: dict[str, Any] | None) -> None:
        before = self.rows.pop(id_, None)
        if recorded is None:
            if before:
                await self._database.delete("monitors", id_)
            return
        row = _row(recorded)
        if row["proxy_id"] and row["proxy_id"] not in self._proxies:
            self._proxies.add(row["proxy_id"])
            await self._database.insert("proxies", proxy_row(id=row["proxy_id"]))
        if before:
            await self._database.update("monitors", **row, id_=row["id"])
        else:
            await self._database.insert("monitors", row)
        self.rows[id_] = row

    async def until_equal(self) -> None:
        """Wait until the schedule holds what the database says, and nothing else."""
        expected = {id_ for id_, row in self.rows.items() if row["active"] and row["interval"] > 0}
        assert expected == set(await self._database.ids("active AND interval > 0"))

        async def equal() -> bool:
            return await scheduled_ids(self._redis) == expected

        await until(equal, f"the schedule holds {expected}")


def _row(recorded: dict[str, Any]) -> Row:
    times = {name: datetime.fromisoformat(f"{recorded[name]}") for name in ("created_at", "updated_at")}
    aware = {name: time.astimezone() if time.tzinfo else _as_utc(time) for name, time in times.items()}
    return {**recorded, **aware, "active": bool(recorded["active"])}


def _as_utc(naive: datetime) -> datetime:
    return datetime.fromisoformat(f"{naive.isoformat()}+00:00")


@asynccontextmanager
async def replaying(
    database: Database, redis: Redis, server: RedisServer, folder: Path
) -> AsyncIterator[tuple[Replay, InProcess, Ledger]]:
    settings = database.settings(redis_host=HOST, redis_port=server.port)
    async with producing(settings, EVENTS_ALONE) as node, working(server.port, folder) as ledger:
        await until(lambda: _listeners(redis), "it listens")
        await node.until_logged("no active monitor found")
        yield Replay(database, redis), node, ledger


async def _listeners(redis: Redis) -> int:
    ((_, count),) = await redis.pubsub_numsub(CREATED)
    return int(count)


async def test_after_each_recorded_step_the_schedule_is_the_databases(
    either_db: Database, redis: Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    async with replaying(either_db, redis, redis_server, tmp_path) as (replay, node, ledger):
        for step in replay.steps:
            began_ms, known = await redis_now_ms(redis), set(replay.rows)
            await replay.step(step)
            await replay.until_equal()
            new = [id_ for id_ in replay.rows.keys() - known if step["events"]]
            await ledger.until_ran(new, began_ms - 1)
    assert replay.rows == {}
    assert not node.logged("events dropped as invalid")


@pytest.mark.parametrize("until_step", [LAST_BEFORE_DELETES, None])
async def test_all_recorded_steps_at_once_end_in_the_databases_state(
    either_db: Database, redis: Redis, redis_server: RedisServer, tmp_path: Path, until_step: int | None
) -> None:
    async with replaying(either_db, redis, redis_server, tmp_path) as (replay, _node, _ledger):
        for step in replay.steps[:until_step]:
            await replay.step(step)
        published_ms = await redis_now_ms(redis)
        await replay.until_equal()
        # The looks that follow an event change nothing any more.
        await until_ms(redis, published_ms + EVENTS_ALONE.reread_after_s[-1] * 1000 + 100)
        await replay.until_equal()
