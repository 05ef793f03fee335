"""Redis' clock is stepped by an hour, forward and back: all monitors run again within 5 s, and not all at once."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.message import task_id
from peekaping_producer.model.monitor import MonitorId
from support.databases import Row, SqliteDatabase, monitor_row
from support.fleet import fleet
from support.nodes import connected
from support.redis_clock import redis_with_clock

STEPPED, SWEPT = "redis clock stepped", "sweep finished"
HOUR_S = 3600
AGAIN_WITHIN_S = 5.0


class Taker:
    """Takes tasks from the queue as soon as they are there, as fast workers do, and notes when by this host's clock."""

    def __init__(self, redis: Redis) -> None:
        self.taken_s: defaultdict[str, list[float]] = defaultdict(list)
        self._redis = redis

    async def loop(self) -> None:
        while True:
            for task in cast("list[bytes] | None", await self._redis.rpop(keys.PENDING, 1000)) or []:
                await self._redis.delete(keys.TASK.encode() + task)
                self.taken_s[task.decode()].append(time.monotonic())
            await asyncio.sleep(0.005)

    async def until_all_ran(self, rows: list[Row], since_s: float, times: int = 1) -> None:
        async with asyncio.timeout(60):
            while not all(sum(at_s > since_s for at_s in self.of(row)) >= times for row in rows):
                await asyncio.sleep(0.02)

    def of(self, row: Row) -> list[float]:
        return self.taken_s[task_id(MonitorId(row["id"]))]

    def most_within(self, rows: list[Row], since_s: float, span_s: float) -> int:
        """Return the most tasks of these monitors in any span of this many seconds."""
        instants = sorted(at_s for row in rows for at_s in self.of(row) if at_s > since_s)
        return max((sum(at <= other < at + span_s for other in instants) for at in instants), default=0)


@asynccontextmanager
async def taking(port: int) -> AsyncIterator[Taker]:
    async with connected(port) as client, asyncio.TaskGroup() as group:
        taker = Taker(client)
        loop = group.create_task(taker.loop())
        try:
            yield taker
        finally:
            loop.cancel()


@pytest.mark.long
async def test_all_monitors_run_again_within_5_s_of_a_step_and_not_all_at_once(
    empty_sqlite_db: SqliteDatabase, tmp_path: Path
) -> None:
    short = [monitor_row(interval=1 + n % 2) for n in range(200)]
    long = [monitor_row(interval=20) for _ in range(400)]
    await empty_sqlite_db.insert("monitors", *short, *long)
    with redis_with_clock(tmp_path) as (server, clock):
        assert server.port is not None
        async with (
            connected(server.port) as redis,
            taking(server.port) as taker,
            fleet(tmp_path, empty_sqlite_db, redis, server.port, worker=False, nodes=2) as nodes,
        ):
            await nodes.begin([*short, *long])
            await taker.until_all_ran(short, time.monotonic(), 2)
            for number, ahead_s in enumerate((HOUR_S, 0), 1):
                stepped_s = time.monotonic()
                clock.step(ahead_s)
                await taker.until_all_ran(short, stepped_s, 3)
                first_s = [min(at_s for at_s in taker.of(row) if at_s > stepped_s) - stepped_s for row in short]
                assert max(first_s) < AGAIN_WITHIN_S
                assert_no_storm(taker, short, long, stepped_s)
                for node in nodes.nodes:
                    line = await node.until_logged(STEPPED, number)
                    assert abs(line["by_s"]) == pytest.approx(HOUR_S, abs=2)
                moved = sum(bool(line["moved"]) for node in nodes.nodes for line in node.logged(SWEPT))
                assert moved >= number, "the leader sweeps at once"
                await nodes.until_whole([*short, *long])


def assert_no_storm(taker: Taker, short: list[Row], long: list[Row], stepped_s: float) -> None:
    """Normal are 20 of the long ones a second, and 150 of the short ones; a busy machine makes some come together."""
    assert taker.most_within(long, stepped_s, 1) < 150
    assert taker.most_within(short, stepped_s, 1) < 500
    close = [
        f"{round(after - before, 2)} s, after {round(after - stepped_s, 2)} s"
        for row in long
        for before, after in pairwise(taker.of(row))
        if after > stepped_s and after - before < row["interval"] * 0.4
    ]
    assert close == []
