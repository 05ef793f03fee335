"""The whole producer on Peekaping's own databases: every active monitor is scheduled and gets tasks, no other does."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from redis.asyncio import Redis

from peekaping_producer.app import produce
from peekaping_producer.asynq import keys
from peekaping_producer.asynq.message import TASK_TYPE, task_id
from peekaping_producer.asynq.task_message_pb2 import TaskMessage
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.node.stop import Stop
from peekaping_producer.redisdb.keys import DUE, LEASE
from peekaping_producer.timing import Timing
from support.databases import SCHEDULABLE, Database
from support.log_capture import CapturedLog
from support.schedule import scheduled_ids
from support.waiting import WITHIN_S, until
from vectors.vectors import load

TIMING = Timing(claim_wait_s=0.05, reclaim_every_s=0.1, sweep_every_s=0.1)


@asynccontextmanager
async def producing(database: Database, redis_server: RedisServer) -> AsyncIterator[CapturedLog]:
    """Run the producer for the duration of the block; give its log, complete after the block."""
    captured = CapturedLog()
    stop = Stop()
    settings = database.settings(redis_host=HOST, redis_port=redis_server.port)
    producer = asyncio.create_task(produce(settings, captured.log, TIMING, stop), name="producer")
    try:
        yield captured
    finally:
        stop.set()
        async with asyncio.timeout(WITHIN_S):
            await producer


async def now(redis: Redis) -> int:
    """Return Redis' clock, Unix ms."""
    seconds, micros = await redis.time()
    return int(seconds * 1000 + micros // 1000)


async def make_all_due(redis: Redis) -> int:
    """Set every waiting monitor's due time to now; return now, Unix ms."""
    now_ms = await now(redis)
    waiting: list[Any] = await redis.zrange(DUE, 0, -1)
    await redis.zadd(DUE, dict.fromkeys(waiting, now_ms), xx=True)
    return now_ms


async def pending(redis: Redis) -> list[str]:
    ids: list[Any] = await redis.lrange(keys.PENDING, 0, -1)
    return [id_.decode() for id_ in ids]


async def task(redis: Redis, monitor_id: str) -> dict[str, Any]:
    """Return a monitor's task: the hash's fields, the message's, and the payload parsed."""
    reply: dict[Any, Any] = await redis.hgetall(keys.TASK + task_id(MonitorId(monitor_id)))
    stored = {name.decode(): value for name, value in reply.items()}
    message = TaskMessage.FromString(stored.pop("msg"))
    fields = {field.name: value for field, value in message.ListFields()}
    return {**stored, **fields, "payload": json.loads(message.payload)}


async def test_every_active_monitor_is_scheduled_and_no_other(
    any_fixture_db: Database, redis_server: RedisServer, redis: Redis
) -> None:
    active = set(await any_fixture_db.ids(SCHEDULABLE))

    async with producing(any_fixture_db, redis_server):
        await until(lambda: _equals(scheduled_ids(redis), active))

    assert len(active) >= (16 if any_fixture_db.kind == "mongo" else 78)
    assert await scheduled_ids(redis) == active


async def test_every_scheduled_monitor_gets_a_proper_pending_task(
    any_fixture_db: Database, redis_server: RedisServer, redis: Redis
) -> None:
    active = set(await any_fixture_db.ids(SCHEDULABLE))
    started_ms = await now(redis)

    async with producing(any_fixture_db, redis_server):
        await until(lambda: _equals(scheduled_ids(redis), active))
        now_ms = await make_all_due(redis)
        await until(lambda: _all_settled(redis, now_ms, len(active)))
    ended_ms = await now(redis)

    ids = await pending(redis)
    assert sorted(ids) == sorted(task_id(MonitorId(id_)) for id_ in active)
    assert await redis.smembers(keys.QUEUES) == {keys.QUEUE.encode()}
    assert await redis.zcard(LEASE) == 0
    for id_ in active:
        found = await task(redis, id_)
        payload = found["payload"]
        assert found["state"] == b"pending"
        assert started_ms * 10**6 <= int(found["pending_since"]) < (ended_ms + 1) * 10**6
        assert (found["type"], found["queue"], found["id"]) == (TASK_TYPE, keys.QUEUE, task_id(MonitorId(id_)))
        assert found.keys().isdisjoint({"retry", "retention", "deadline", "unique_key"})
        assert found["timeout"] > payload["timeout"]
        assert payload["monitor_id"] == id_
        due_ms = await redis.zscore(DUE, id_)
        assert due_ms is not None
        assert now_ms + payload["interval"] * 500 <= due_ms


async def test_checks_follow_one_another(any_fixture_db: Database, redis_server: RedisServer, redis: Redis) -> None:
    active = set(await any_fixture_db.ids(SCHEDULABLE))

    async with producing(any_fixture_db, redis_server):
        await until(lambda: _equals(scheduled_ids(redis), active))
        for _ in range(3):
            await until(partial(_all_settled, redis, await make_all_due(redis), len(active)))
            assert len(await pending(redis)) == len(active)
            await redis.delete(keys.PENDING, *[keys.TASK + task_id(MonitorId(id_)) for id_ in active])


async def test_a_monitor_that_must_get_none_gets_none(
    any_fixture_db: Database, redis_server: RedisServer, redis: Redis
) -> None:
    absent = [
        monitor["id"] if "id" in monitor else monitor["_id"]["$oid"]
        for case in load("tasks")["absent"]
        if case["database"] == any_fixture_db.kind and (monitor := case["monitor"])
    ]
    others = set(await any_fixture_db.ids()) - set(await any_fixture_db.ids(SCHEDULABLE))
    # As if they had been active a moment ago.
    await redis.zadd(DUE, dict.fromkeys(others, 1.0))
    await redis.zadd(LEASE, {MonitorId("00000000-0000-4000-8000-000000000000"): 1.0})

    async with producing(any_fixture_db, redis_server) as log:
        active = set(await any_fixture_db.ids(SCHEDULABLE))
        await until(lambda: _equals(scheduled_ids(redis), active))
        now_ms = await make_all_due(redis)
        await until(lambda: _all_settled(redis, now_ms, len(active)))

    assert others >= set(absent)
    assert len(others) >= 1
    assert await scheduled_ids(redis) == active
    for id_ in others:
        assert not await redis.exists(keys.TASK + task_id(MonitorId(id_)))
    assert "producer stopped" in {line["event"] for line in log.lines}
    assert {line["level"] for line in log.lines} <= {"debug", "info", "warning"}


async def _equals(seen: Awaitable[set[str]], expected: set[str]) -> bool:
    return await seen == expected


async def _all_settled(redis: Redis, now_ms: int, count: int) -> bool:
    """Return whether all monitors are settled: none is claimed, and each waits for a slot after now."""
    waiting = await redis.zcount(DUE, f"({now_ms}", "+inf")
    return bool(waiting == count and not await redis.zcard(LEASE))
