"""A consumer that takes every task at once and reads what it says, in place of a worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import cast

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.task_message_pb2 import TaskMessage
from peekaping_producer.demo.clock import now_ms

_LOOK_S = 0.02


class _Payload(Struct):
    monitor_id: str
    monitor_name: str
    scheduled_at: datetime


class Consumed(Struct, frozen=True):
    """One task: whose check it is, the name that the monitor had, and when it was claimed and taken (Unix ms)."""

    monitor_id: str
    name: str
    scheduled_ms: float
    taken_ms: int


@asynccontextmanager
async def consuming(redis: Redis) -> AsyncIterator[list[Consumed]]:
    """Take tasks for the duration of the block; give the list of them, which grows."""
    consumed: list[Consumed] = []

    async def consume() -> None:
        while True:
            for task in cast("list[bytes]", await redis.rpop(keys.PENDING, 1_000) or []):
                message = cast("bytes", await redis.hget(keys.TASK + task.decode(), "msg"))
                await redis.delete(keys.TASK + task.decode())
                payload = msgspec.json.decode(TaskMessage.FromString(message).payload, type=_Payload)
                scheduled_ms = payload.scheduled_at.timestamp() * 1000
                consumed.append(Consumed(payload.monitor_id, payload.monitor_name, scheduled_ms, now_ms()))
            await asyncio.sleep(_LOOK_S)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(consume())
        try:
            yield consumed
        finally:
            task.cancel()
