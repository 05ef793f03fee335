"""The list of monitors that are skipped as invalid, and why, in Redis: `status` shows it without a database."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from redis.asyncio import Redis

from peekaping_producer.redisdb.client import answered, text_of
from peekaping_producer.redisdb.keys import INVALID
from peekaping_producer.timing import Timing

MOST_LISTED = 1_000
"""The most that are listed. If there are more, one mistake is behind them."""


class InvalidMonitors:
    """The list. Every method raises Unavailable if Redis does not answer in time."""

    def __init__(self, redis: Redis, timing: Timing) -> None:
        """Take the client."""
        self._redis = redis
        self._timeout_s = timing.redis_timeout_s

    async def note(self, reasons: Mapping[str, str]) -> None:
        """Add monitors with their reasons, or replace the reasons; what exceeds the limit is left out."""
        if not reasons:
            return
        async with answered(self._timeout_s):
            room = max(0, MOST_LISTED - await cast("Any", self._redis.hlen(INVALID)))
            fields = {_bytes(id_): reason.encode(errors="replace") for id_, reason in list(reasons.items())[:room]}
            if fields:
                await cast("Any", self._redis.hset(INVALID, mapping=cast("Any", fields)))

    async def forget(self, ids: Iterable[str]) -> None:
        """Remove monitors from the list."""
        gone = [_bytes(id_) for id_ in ids]
        if gone:
            async with answered(self._timeout_s):
                await cast("Any", self._redis.hdel(INVALID, *gone))

    async def all(self) -> dict[str, str]:
        """Return the listed monitors: id → reason."""
        async with answered(self._timeout_s):
            listed = cast("dict[bytes, bytes]", await cast("Any", self._redis.hgetall(INVALID)))
        return {text_of(id_): reason.decode(errors="replace") for id_, reason in listed.items()}

    async def count(self) -> int:
        """Return how many are listed."""
        async with answered(self._timeout_s):
            return cast("int", await cast("Any", self._redis.hlen(INVALID)))


def _bytes(id_: str) -> bytes:
    """Return an id as it is in Redis: an invalid id may not be valid UTF-8."""
    return id_.encode("utf-8", "surrogateescape")
