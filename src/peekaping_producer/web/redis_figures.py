"""The figures that only Redis knows: the size of the schedule and of the queue. Read when asked for, and seldom."""

import asyncio
import time

from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.asynq.queue import QueueState, queue_state
from peekaping_producer.errors import Unavailable
from peekaping_producer.fleet.invalid_monitors import InvalidMonitors
from peekaping_producer.node.node import Node
from peekaping_producer.schedule.view import Overview, ScheduleView


class RedisFigures(Struct, frozen=True):
    """What Redis held at one instant."""

    schedule: Overview
    invalid: int
    """Monitors that are skipped as invalid."""
    queue: QueueState


class RedisReader:
    """Reads the figures, and keeps them for a second, however many ask for them."""

    def __init__(self, node: Node, redis: Redis) -> None:
        """Take the client."""
        self._node = node
        self._redis = redis
        self._timeout_s = node.timing.redis_timeout_s
        self._view = ScheduleView(redis, self._timeout_s)
        self._invalid = InvalidMonitors(redis, node.timing)
        self._reading = asyncio.Lock()
        self._kept: RedisFigures | None = None
        self._until_s = 0.0

    async def figures(self) -> RedisFigures | None:
        """Return the figures, at most a second old; None if Redis does not answer."""
        async with self._reading:
            if time.monotonic() >= self._until_s:
                self._kept = await self._read()
                self._until_s = time.monotonic() + self._node.timing.figures_kept_s
            return self._kept

    async def _read(self) -> RedisFigures | None:
        outage = self._node.redis_outage
        if outage.ongoing or not outage.has_answered:
            return None
        try:
            return RedisFigures(
                await self._view.overview(),
                await self._invalid.count(),
                await queue_state(self._redis, self._timeout_s),
            )
        except Unavailable as error:
            self._node.redis_failed(error)
            return None
