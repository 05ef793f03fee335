"""The registry of nodes: a record of each, so that `status` can show the fleet."""

import math
from typing import Any, Final, cast

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.observe.history import TERMS_WITHIN_S, Recent
from peekaping_producer.redisdb.client import answered, load_script
from peekaping_producer.redisdb.keys import HEALTHY, INACTIVE, NODE, NODES
from peekaping_producer.timing import Timing

_STARTING_KEPT_MS: Final = 15_000
"""A node that waits for its database tries at least this often."""
_STOPPED_KEPT_MS: Final = int(TERMS_WITHIN_S * 1000)


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
    """How late tasks were queued, counted from their slots, in the last minute or less; None if there were none."""
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
    """How long before this record Redis last answered one of its claims; None if it never did."""
    database_down_s: float = 0.0
    """For how long the database had been unavailable; 0 while it is available."""
    recent: Recent = Recent()
    """What it did in the last minutes."""
    starting: bool = False
    """It waits for its database, which has not answered since its start."""


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
        self._set_inactive = load_script(redis, __package__, "time", "set_inactive")

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

    async def set_inactive(self, info: NodeInfo) -> None:
        """Write the record of a node that has stopped, or is not ready yet. It counts neither as alive nor as gone.

        What it did before it stopped is kept for as long as an alert counts it.
        """
        kept_ms = _STARTING_KEPT_MS if info.starting else _STOPPED_KEPT_MS
        async with answered(self._timing.redis_timeout_s):
            await self._set_inactive(
                keys=(NODES, NODE + info.id, HEALTHY, INACTIVE), args=(info.id, msgspec.json.encode(info), kept_ms)
            )

    async def inactive(self) -> list[SeenNode]:
        """Return the nodes that wait for their database at their start, and those that have stopped recently.

        A node that has just become ready is among them too, for some seconds.
        """
        records, now_ms = await self._read(INACTIVE)
        return [
            _seen(info, until_ms, now_ms, _STARTING_KEPT_MS if info.starting else _STOPPED_KEPT_MS)
            for until_ms, info in records
            if until_ms > now_ms
        ]

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
        records, now_ms = await self._read(NODES)
        return [_seen(info, until_ms, now_ms, self._alive_ms) for until_ms, info in records]

    async def _read(self, key: str) -> tuple[list[tuple[float, NodeInfo]], int]:
        """Return the score and the record of each node in a set, and Redis' time in Unix ms."""
        async with answered(self._timing.redis_timeout_s), self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(key, 0, -1, withscores=True)
            (seconds, micros), pairs = await pipe.execute()
            scores = dict(sorted(cast("list[tuple[bytes, float]]", pairs)))
            records = await self._redis.mget([NODE.encode() + id_ for id_ in scores]) if scores else []
        found = zip(scores.values(), map(_info, cast("list[bytes | None]", records)), strict=True)
        return [(score, info) for score, info in found if info], seconds * 1000 + micros // 1000


def _seen(info: NodeInfo, until_ms: float, now_ms: int, kept_ms: int) -> SeenNode:
    # Garbage in the set may have an infinite score; no node was seen later than now.
    return SeenNode(info, int(max(0, min(now_ms, until_ms - kept_ms))), gone=until_ms <= now_ms)


def _info(record: bytes | None) -> NodeInfo | None:
    if not record:
        return None
    try:
        return msgspec.json.decode(record, type=NodeInfo)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
