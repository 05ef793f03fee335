"""The registry of nodes: what each says of itself, so that a person can see the fleet."""

from typing import Any, cast

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.schedule.connection import answered, load_script
from peekaping_producer.schedule.keys import NODE, NODES
from peekaping_producer.timing import Timing


class NodeInfo(Struct, frozen=True):
    """One node's record."""

    id: str
    version: str
    started: str
    """RFC 3339, UTC."""
    leader: bool
    concurrency: int
    checks: int
    """Tasks it has put in place since its start."""
    lateness_p50_ms: int | None
    """Of the last minute or less; None when there was no check."""
    lateness_p99_ms: int | None
    database_away: str | None
    """Why the database does not answer; None while it does."""
    checks_from_copy: int
    """Checks built from what was read before the database went away, since it did."""
    oldest_copy_s: float
    """How old the oldest of that was."""
    swept: dict[str, Any] | None
    """The result of its last sweep as leader."""


class Registry:
    """The nodes' records. Every method raises Unavailable when Redis does not do it in time."""

    def __init__(self, redis: Redis, timing: Timing) -> None:
        """Take the client."""
        self._redis = redis
        self._timing = timing
        self._alive_ms = int(timing.presence_every_s * 3000)
        self._register = load_script(redis, __package__, "register")

    async def register(self, info: NodeInfo) -> None:
        """Write a node's record, which goes by itself after three times the interval of writing."""
        async with answered(self._timing.redis_timeout_s):
            await self._register(
                keys=(NODES, NODE + info.id), args=(info.id, msgspec.json.encode(info), self._alive_ms)
            )

    async def leave(self, node_id: str) -> None:
        """Take a node's record away."""
        async with answered(self._timing.redis_timeout_s), self._redis.pipeline(transaction=False) as pipe:
            pipe.zrem(NODES, node_id)
            pipe.delete(NODE + node_id)
            await pipe.execute()

    async def nodes(self) -> list[NodeInfo]:
        """Return the records of the nodes that live, in the order of their ids; one that can't be read is left out."""
        async with answered(self._timing.redis_timeout_s):
            ids = cast("list[bytes]", await self._redis.zrange(NODES, 0, -1))
            found = await self._redis.mget([NODE.encode() + id_ for id_ in sorted(ids)]) if ids else []
        return [info for record in cast("list[bytes | None]", found) if record and (info := _info(record))]


def _info(record: bytes) -> NodeInfo | None:
    try:
        return msgspec.json.decode(record, type=NodeInfo)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
