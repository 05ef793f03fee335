"""The producer beside the real asynq: its server takes our tasks, again and again and on time; its tools see them."""

import asyncio
from collections import defaultdict
from datetime import datetime
from itertools import pairwise

import pytest
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.message import TASK_TYPE, task_id
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.model.cadence import cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import DUE
from peekaping_producer.timing import Timing
from support.asynq_peer import AsynqPeer, AsynqServer, HandledTask
from support.databases import SCHEDULABLE, Database, monitor_row
from support.producer import producing

PROMPT = Timing(claim_wait_s=0.05)
"""What a test makes due is not noticed a second later."""


async def test_asynq_sees_and_takes_a_task_of_every_monitor(
    any_fixture_db: Database, redis_server: RedisServer, redis: Redis, asynq_peer: AsynqPeer
) -> None:
    active = await any_fixture_db.ids(SCHEDULABLE)
    await redis.zadd(DUE, dict.fromkeys(active, 1))
    one = task_id(MonitorId(active[0]))

    settings = any_fixture_db.settings(redis_host=HOST, redis_port=redis_server.port)
    async with producing(settings, PROMPT):
        async with asyncio.timeout(20):
            while await redis.llen(keys.PENDING) < len(active):
                await asyncio.sleep(0.01)
        seen = await asynq_peer.inspect(one)
        assert seen.queues == ["healthcheck"]
        assert seen.queue is not None
        assert (seen.queue.pending, seen.queue.paused) == (len(active), False)
        assert 0 <= seen.queue.latency_ms < 60_000
        assert seen.task is not None
        assert (seen.task.type, seen.task.state) == (TASK_TYPE, "pending")
        assert (seen.task.max_retry, seen.task.retention_s, seen.task.headers or {}) == (0, 0, {})

        async with asynq_peer.serve() as server:
            await server.until(lambda: len(server.done) >= len(active))

    first = {task.id: task for task in reversed(server.tasks)}
    assert first.keys() == {task_id(MonitorId(id_)) for id_ in active}
    assert {task.parse_error for task in server.tasks} == {""}
    assert {done.error for done in server.done} == {""}
    assert not [task for task in server.tasks if task.stale]
    for task in server.tasks:
        assert task.deadline_ms - task.started_ms > max(0, task.payload["timeout"]) * 1000


@pytest.mark.long
async def test_checks_come_again_and_again_on_their_grid(
    any_db: Database, redis_server: RedisServer, redis: Redis, asynq_peer: AsynqPeer
) -> None:
    rows = [monitor_row(interval=1 + number % 2) for number in range(8)]
    await any_db.insert("monitors", *rows)
    tasks_of = {task_id(MonitorId(row["id"])): row["interval"] for row in rows}

    settings = any_db.settings(redis_host=HOST, redis_port=redis_server.port)
    async with producing(settings, Timing()), asynq_peer.serve() as server:
        await server.until(lambda: min(len(runs) for runs in _runs(server, list(tasks_of)).values()) >= 4, 30)

    for id_, runs in _runs(server, list(tasks_of)).items():
        assert {run.parse_error for run in runs} == {""}
        assert not any(run.stale for run in runs)
        _assert_cadence(id_, tasks_of[id_], runs)


def _runs(server: AsynqServer, ids: list[str]) -> dict[str, list[HandledTask]]:
    by_id: defaultdict[str, list[HandledTask]] = defaultdict(list)
    for task in server.tasks:
        by_id[task.id].append(task)
    return {id_: by_id[id_] for id_ in ids}


def _assert_cadence(id_: str, interval_s: int, runs: list[HandledTask]) -> None:
    """G1: never closer than half a period, and no slot is skipped but those that the check before was too late for."""
    grid = cadence(MonitorId(id_.removeprefix("healthcheck:")), interval_s)
    for earlier, later in pairwise(runs):
        claimed_ms, next_ms = _claimed_ms(earlier), _claimed_ms(later)
        assert next_ms - claimed_ms >= grid.period_ms / 2
        # The settle chooses the next slot, before the worker takes the task.
        assert next_ms - (next_ms - grid.phase_ms) % grid.period_ms <= grid.next_slot(earlier.started_ms)


def _claimed_ms(run: HandledTask) -> int:
    return round(datetime.fromisoformat(run.payload["scheduled_at"]).timestamp() * 1000)
