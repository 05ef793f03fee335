"""What commands and summaries read of the schedule. Nothing here changes it."""

import math
from typing import cast

from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.client import answered, text_of
from peekaping_producer.redisdb.keys import DUE, GO_SEEN, LEADER, LEASE, PAUSE
from peekaping_producer.schedule.orders import Claimed
from peekaping_producer.schedule.pause import FIELDS, Pause, pause_of


class Overview(Struct, frozen=True):
    """The schedule at a glance."""

    due: int
    """Monitors that wait for their slot, or are overdue."""
    leased: int
    oldest_due_ms: int | None
    """How long the longest overdue monitor has been due; 0 if none is overdue, None if none is scheduled."""


class Late(Struct, frozen=True):
    """The monitors that are overdue: due and not claimed, or claimed by a node that died."""

    count: int
    """How many have been overdue for longer than was asked for."""
    oldest_ms: float | None
    """When the longest overdue one was due, Unix ms; None if none is overdue."""
    first: list[Claimed]
    """The first of those that are counted."""


class Place(Struct, frozen=True):
    """Where one monitor is in the schedule, who leads, and whether checks are paused."""

    now_ms: int
    due_ms: float | None
    lease_ms: float | None
    """When the claim on it expires; None if it is not claimed."""
    leader: str | None
    go_seen: bool
    """Whether a Go producer has been noticed recently."""
    pause: Pause | None = None


class ScheduleView:
    """Reads the schedule. Every method raises Unavailable if Redis does not answer in time."""

    def __init__(self, redis: Redis, timeout_s: float) -> None:
        """Take the client."""
        self._redis = redis
        self._timeout_s = timeout_s

    async def overview(self) -> Overview:
        """Count the schedule and find its longest overdue monitor."""
        async with answered(self._timeout_s), self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(DUE)
            pipe.zcard(LEASE)
            pipe.zrange(DUE, 0, 0, withscores=True)
            pipe.time()
            due, leased, first, (seconds, micros) = await pipe.execute()
        now_ms = seconds * 1000 + micros // 1000
        overdue_ms = now_ms - first[0][1] if first else None
        if overdue_ms is not None and not math.isfinite(overdue_ms):  # garbage in due
            overdue_ms = 0
        return Overview(due, leased, None if overdue_ms is None else max(0, int(overdue_ms)))

    async def place_of(self, id_: MonitorId) -> Place:
        """Return where a monitor is in the schedule."""
        async with answered(self._timeout_s), self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zscore(DUE, id_)
            pipe.zscore(LEASE, id_)
            pipe.get(LEADER)
            pipe.exists(GO_SEEN)
            pipe.hmget(PAUSE, FIELDS)
            (seconds, micros), due_ms, lease_ms, leader, go_seen, pause = await pipe.execute()
        now_ms = seconds * 1000 + micros // 1000
        return Place(
            now_ms=now_ms,
            due_ms=due_ms,
            lease_ms=lease_ms,
            leader=None if leader is None else text_of(leader),
            go_seen=bool(go_seen),
            pause=pause_of(pause, now_ms),
        )

    async def next_runs(self, count: int) -> list[Claimed]:
        """Return the monitors that are due next, the first one first."""
        async with answered(self._timeout_s):
            pairs = await self._redis.zrange(DUE, 0, count - 1, withscores=True)
        return [Claimed(MonitorId(text_of(id_)), due_ms) for id_, due_ms in cast("list[tuple[bytes, float]]", pairs)]

    async def upcoming(self, now_ms: int, seconds: int) -> list[int]:
        """Return how many monitors are due in each of the next seconds, the first of which is the current one."""
        first_ms = now_ms // 1000 * 1000
        async with answered(self._timeout_s), self._redis.pipeline(transaction=False) as pipe:
            for begin_ms in range(first_ms, first_ms + seconds * 1000, 1000):
                pipe.zcount(DUE, begin_ms, f"({begin_ms + 1000}")
            return cast("list[int]", await pipe.execute())

    async def late(self, now_ms: int, for_ms: int, limit: int) -> Late:
        """Return the monitors that have been overdue for more than `for_ms`, at most `limit` by name.

        A claimed one counts from the end of its claim.
        """
        async with answered(self._timeout_s), self._redis.pipeline(transaction=False) as pipe:
            for key in (DUE, LEASE):
                pipe.zcount(key, "-inf", f"({now_ms - for_ms}")
                pipe.zrangebyscore(key, "-inf", f"({now_ms}", 0, limit, withscores=True)
            due, due_pairs, leased, lease_pairs = await pipe.execute()
        pairs = cast("list[tuple[bytes, float]]", sorted((*due_pairs, *lease_pairs), key=lambda pair: pair[1]))
        first = [Claimed(MonitorId(text_of(id_)), ms) for id_, ms in pairs[:limit] if ms < now_ms - for_ms]
        return Late(due + leased, pairs[0][1] if pairs else None, first)
