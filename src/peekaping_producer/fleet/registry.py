"""The registry of nodes: a record of each, so that `status` can show the fleet."""

import math
from typing import Any, cast

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.observe.history import Recent
from peekaping_producer.redisdb.client import answered, load_script
from peekaping_producer.redisdb.keys import HEALTHY, NODE, NODES
from peekaping_producer.timing import Timing


class NodeInfo(Struct, frozen=True):
    """One node's record. A field that the record lacks, as one written by another version may, has its default."""

    id: str
    version: str = ""
    started: str = ""
    """RFC 3339, UTC."""
    leader: bool = False
    concurrency: int = 0
    checks: int = 0
    """Tasks that it has put into the queue since it started."""
    lateness_p50_ms: int | None = None
    """How long after their slots tasks were in the queue, in the last minute or less; None if there was no task."""
    lateness_p99_ms: int | None = None
    database_problem: str | None = None
    """Why the database is unavailable; None while it is available."""
    checks_from_cache: int = 0
    """Checks built from the cache since the database became unavailable."""
    cache_age_s: float = 0.0
    """The age of the oldest cache entry that one of them was built from."""
    swept: dict[str, Any] | None = None
    """The result of its last sweep as leader."""
    claimed_ago_s: float | None = None
    """How long before this record Redis last answered a claim of its; None if it never did."""
    database_down_s: float = 0.0
    """For how long the database had been unavailable; 0 while it is available."""
    recent: Recent = Recent()
    """What it did in the last minutes."""


class SeenNode(Struct, frozen=True):
    """A node, and when it was last seen."""

    info: NodeInfo
    """Its last record."""
    last_seen_ms: int
    """When that was, Unix ms by Redis' clock."""
    gone: bool
    """It has missed three heartbeats and has not left: it was killed, or is cut off."""


class Registry:
    """The nodes' records. Every method raises Unavailable if Redis does not answer in time."""

    def __init__(self, redis: Redis, timing: Timing) -> None:
        """Take the client."""
        self._redis = redis
        self._timing = timing
        self._alive_ms = timing.alive_ms
        self._gone_ms = int(timing.gone_kept_s * 1000)
        self._register = load_script(redis, __package__, "time", "register")

    async def register(self, info: NodeInfo) -> None:
        """Write a node's record. The node counts as alive for three times the interval of heartbeats, then as gone."""
        async with answered(self._timing.redis_timeout_s):
            await self._register(
                keys=(NODES, NODE + info.id, HEALTHY),
                args=(
                    info.id,
                    msgspec.json.encode(info),
                    self._alive_ms,
                    self._gone_ms,
                    "" if info.database_problem else "healthy",
                ),
            )

    async def leave(self, node_id: str) -> None:
        """Remove a node's record."""
        async with answered(self._timing.redis_timeout_s), self._redis.pipeline(transaction=False) as pipe:
            pipe.zrem(NODES, node_id)
            pipe.zrem(HEALTHY, node_id)
            pipe.delete(NODE + node_id)
            await pipe.execute()

    async def unseen_s(self) -> float:
        """Return for how long no node has been seen; infinite if all have left, or were last seen long ago."""
        async with answered(self._timing.redis_timeout_s), self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrevrange(NODES, 0, 0, withscores=True)
            (seconds, micros), newest = await pipe.execute()
        if not newest:
            return math.inf
        alive_until_ms: float = newest[0][1]
        unseen_s: float = seconds + micros / 1e6 - (alive_until_ms - self._alive_ms) / 1000
        return max(0.0, unseen_s)

    async def nodes(self) -> list[NodeInfo]:
        """Return the records of the nodes that are alive, in the order of their ids."""
        return [node.info for node in await self.seen() if not node.gone]

    async def seen(self) -> list[SeenNode]:
        """Return all nodes that have not left, including those that are gone, in the order of their ids.

        A node whose record can't be read is left out.
        """
        async with answered(self._timing.redis_timeout_s), self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(NODES, 0, -1, withscores=True)
            (seconds, micros), pairs = await pipe.execute()
            until_ms = dict(sorted(cast("list[tuple[bytes, float]]", pairs)))
            records = await self._redis.mget([NODE.encode() + id_ for id_ in until_ms]) if until_ms else []
        now_ms = seconds * 1000 + micros // 1000
        found = zip(until_ms.values(), map(_info, cast("list[bytes | None]", records)), strict=True)
        return [self._seen(info, alive_until_ms, now_ms) for alive_until_ms, info in found if info]

    def _seen(self, info: NodeInfo, alive_until_ms: float, now_ms: int) -> SeenNode:
        # Garbage in the set may have an infinite score; no node was seen later than now.
        last_seen_ms = max(0, min(now_ms, alive_until_ms - self._alive_ms))
        return SeenNode(info, int(last_seen_ms), gone=alive_until_ms <= now_ms)


def _info(record: bytes | None) -> NodeInfo | None:
    if not record:
        return None
    try:
        return msgspec.json.decode(record, type=NodeInfo)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
