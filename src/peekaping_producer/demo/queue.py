"""The queue of health checks as an asynq server uses it: take, done, archive, requeue, lease, heartbeat keys.

The rules are those of asynq v0.26 (`internal/rdb`, `heartbeat.go`, `recoverer.go`) for tasks without retries and
retention, which health checks are (docs/protocol.md, section 2).
"""

import os
import socket
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.server_state_pb2 import ServerInfo, WorkerInfo
from peekaping_producer.asynq.task_message_pb2 import TaskMessage
from peekaping_producer.demo.clock import now_ms
from peekaping_producer.redisdb.client import load_script

LEASE_S = 30
"""How long a worker owns a task, unless it renews the lease."""
BEAT_EVERY_S = 5.0
"""How often a server announces itself and renews its leases; what it announced lasts twice as long."""
RECOVER_EVERY_S = 60.0
RECOVER_AFTER_S = 30
"""A lease must have expired this long ago before another worker archives its task: clocks differ."""
LEASE_EXPIRED = "asynq: task lease expired"
_COUNTERS_KEPT_S = 90 * 24 * 3600
_ARCHIVE_KEPT_S = 90 * 24 * 3600
_ARCHIVE_MAX = 10_000

_PROCESSED = keys.PENDING.removesuffix("pending") + "processed"
_FAILED = keys.PENDING.removesuffix("pending") + "failed"


class Taken(Struct, frozen=True):
    """A task that this worker owns until its lease expires."""

    id: str
    message: TaskMessage
    taken_ms: int
    deadline_ms: int
    """When it counts as failed: by the message's timeout or deadline, whichever is earlier."""


class Queue:
    """The queue as one worker uses it, and the worker's record in `asynq:servers`."""

    def __init__(self, redis: Redis, concurrency: int) -> None:
        """Use `redis`, whose replies are bytes; nothing is sent yet."""
        self._redis = redis
        self._concurrency = concurrency
        self._host, self._pid, self._server_id = socket.gethostname(), os.getpid(), str(uuid.uuid4())
        name = f"{{{self._host}:{self._pid}:{self._server_id}}}"
        self._server_key, self._workers_key = f"{keys.SERVERS}:{name}", f"{keys.WORKERS}:{name}"
        self._started_ms = now_ms()
        self._take, self._done, self._archive, self._requeue = (
            load_script(redis, __package__, name) for name in ("take", "done", "archive", "requeue")
        )

    async def take(self, most: int) -> list[Taken]:
        """Take up to `most` pending tasks, the oldest first; none while the queue is paused."""
        taken_ms = now_ms()
        reply = await self._take(
            keys=[keys.PENDING, keys.PAUSED, keys.ACTIVE, keys.LEASE],
            args=[taken_ms // 1000 + LEASE_S, keys.TASK, most],
        )
        return [
            Taken(task_id.decode(), message, taken_ms, deadline_ms(message, taken_ms))
            for task_id, message in zip(reply[::2], map(TaskMessage.FromString, reply[1::2]), strict=True)
        ]

    async def done(self, task_ids: Sequence[str]) -> int:
        """Finish tasks that succeeded; return how many this worker still owned."""
        now_s = now_ms() // 1000
        return int(
            await self._done(
                keys=[keys.ACTIVE, keys.LEASE, _PROCESSED, _of_day(_PROCESSED, now_s)],
                args=[now_s + _COUNTERS_KEPT_S, keys.TASK, *task_ids],
            )
        )

    async def archive(self, message: TaskMessage, error: str) -> bool:
        """Archive a task that failed; return whether it was still active."""
        now_s = now_ms() // 1000
        failed = TaskMessage()
        failed.CopyFrom(message)
        failed.error_msg, failed.last_failed_at = error, now_s
        counters = [_PROCESSED, _of_day(_PROCESSED, now_s), _FAILED, _of_day(_FAILED, now_s)]
        return bool(
            await self._archive(
                keys=[keys.ACTIVE, keys.LEASE, keys.ARCHIVED, *counters, keys.TASK + message.id],
                args=[
                    *(message.id, failed.SerializeToString(), now_s, now_s + _COUNTERS_KEPT_S),
                    *(now_s - _ARCHIVE_KEPT_S, _ARCHIVE_MAX, keys.TASK),
                ],
            )
        )

    async def requeue(self, task_id: str) -> bool:
        """Put a running task back, to be taken next; return whether it was still active."""
        return bool(
            await self._requeue(keys=[keys.ACTIVE, keys.LEASE, keys.PENDING, keys.TASK + task_id], args=[task_id])
        )

    async def beat(self, running: Sequence[Taken], owned: Sequence[str]) -> int:
        """Announce this server and its running tasks, and renew the leases of `owned`; return their expiry, Unix ms."""
        now_s = now_ms() // 1000
        expires_s = int(2 * BEAT_EVERY_S)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zadd(keys.SERVERS, {self._server_key: now_s + expires_s})
            pipe.zadd(keys.WORKERS, {self._workers_key: now_s + expires_s})
            pipe.set(self._server_key, self._server_info(len(running)), ex=expires_s)
            pipe.delete(self._workers_key)
            if running:
                pipe.hset(self._workers_key, mapping={task.id: self._worker_info(task) for task in running})
                pipe.expire(self._workers_key, expires_s)
            if owned:
                pipe.zadd(keys.LEASE, dict.fromkeys(owned, now_s + LEASE_S), xx=True)
            await pipe.execute()
        return (now_s + LEASE_S) * 1000

    async def sign_off(self) -> None:
        """Remove this server's records."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(keys.SERVERS, self._server_key)
            pipe.zrem(keys.WORKERS, self._workers_key)
            pipe.delete(self._server_key, self._workers_key)
            await pipe.execute()

    async def recover(self) -> int:
        """Archive tasks whose worker has died; return how many."""
        cutoff_s = now_ms() // 1000 - RECOVER_AFTER_S
        recovered = 0
        for task_id in await self._redis.zrangebyscore(keys.LEASE, "-inf", cutoff_s):
            if message := await message_of(self._redis, text_of(task_id)):
                recovered += await self.archive(message, LEASE_EXPIRED)
        return recovered

    def _server_info(self, running: int) -> bytes:
        info = ServerInfo(
            host=self._host,
            pid=self._pid,
            server_id=self._server_id,
            concurrency=self._concurrency,
            queues={keys.QUEUE: 1},
            status="active",
            active_worker_count=running,
        )
        info.start_time.FromMilliseconds(self._started_ms)
        return bytes(info.SerializeToString())

    def _worker_info(self, task: Taken) -> bytes:
        info = WorkerInfo(
            host=self._host,
            pid=self._pid,
            server_id=self._server_id,
            task_id=task.id,
            task_type=task.message.type,
            task_payload=task.message.payload,
            queue=task.message.queue,
        )
        info.start_time.FromMilliseconds(task.taken_ms)
        info.deadline.FromMilliseconds(task.deadline_ms)
        return bytes(info.SerializeToString())


def text_of(reply: object) -> str:
    """Return a task's id from an element of a Redis list."""
    return reply.decode() if isinstance(reply, bytes) else str(reply)


async def message_of(redis: Redis, task_id: str) -> TaskMessage | None:
    """Return the message of a task in any state; None if there is no such task."""
    text = await redis.hget(keys.TASK + task_id, "msg")
    return TaskMessage.FromString(text) if isinstance(text, bytes) else None


def deadline_ms(message: TaskMessage, taken_ms: int) -> int:
    """Return when a task counts as failed. Without timeout and deadline asynq allows half an hour."""
    ends = [taken_ms + message.timeout * 1000] if message.timeout else []
    ends += [message.deadline * 1000] if message.deadline else []
    return min(ends, default=taken_ms + 30 * 60 * 1000)


def _of_day(counter: str, now_s: int) -> str:
    return f"{counter}:{datetime.fromtimestamp(now_s, UTC):%Y-%m-%d}"
