"""A term of leadership: taken, extended and resigned in Redis, whose clock ends it there.

Here the local monotonic clock only ever ends the trust in it earlier: the time counts from before the request was sent.
"""

import asyncio
import secrets
import time
from typing import cast

from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.errors import Unavailable
from peekaping_producer.node import Stop
from peekaping_producer.schedule.connection import answered, load_script
from peekaping_producer.schedule.keys import EPOCH, GO_SEEN, LEADER, SIGNALS
from peekaping_producer.schedule.store import LONGEST_TERM_MS
from peekaping_producer.timing import Timing


class Term:
    """The time a node leads. What it writes is fenced by Redis too: a frozen process may wake up after the end."""

    def __init__(self, node_id: str, lasts_until_s: float) -> None:
        """Begin; `lasts_until_s` by the monotonic clock."""
        self.node_id = node_id
        self.ended = Stop()
        """Set at the end; a duty waits on this, and looks at `is_over` before it goes on."""
        self.lasts_until_s = lasts_until_s
        self.epoch = 0
        """The number of the last extension that Redis has confirmed."""
        self.token = secrets.token_hex(8)

    @property
    def is_over(self) -> bool:
        """Tell whether this node leads no longer."""
        return bool(self.ended) or time.monotonic() >= self.lasts_until_s


class Other(Struct, frozen=True):
    """Another node leads."""

    node_id: str
    left_s: float
    """How long its term lasts if it is not extended."""


class Terms:
    """The leader key. Every method raises Unavailable when Redis does not do it in time."""

    def __init__(self, redis: Redis, node_id: str, timing: Timing) -> None:
        """Act in the name of this node."""
        self._node_id = node_id
        self._timing = timing
        self._take, self._extend, self._resign = (
            load_script(redis, __package__, name) for name in ("take", "extend", "resign")
        )

    async def take(self) -> Term | Other:
        """Begin a term if nobody leads, or if this node does and has forgotten it."""
        timing = self._timing
        term = Term(self._node_id, self._lasts_until_s())
        async with answered(timing.redis_timeout_s):
            reply = await self._take(
                keys=(LEADER, EPOCH, GO_SEEN),
                args=(self._node_id, timing.term_ms, _epoch(term, 0), LONGEST_TERM_MS, timing.go_seen_ms),
            )
        holder, left_ms = cast("tuple[bytes, int]", reply)
        return Other(holder.decode(errors="replace"), left_ms / 1000) if holder else term

    async def extend(self, term: Term) -> str | None:
        """Let the term last on; return why it is over instead, None if it is not."""
        lasts_until_s = self._lasts_until_s()
        left_s = term.lasts_until_s - time.monotonic()
        async with answered(min(self._timing.redis_timeout_s, max(0.0, left_s))):
            next_ = _epoch(term, term.epoch + 1)
            reply = await self._extend(keys=(LEADER, EPOCH), args=(self._node_id, self._timing.term_ms, next_))
        if reply is None:
            return "Redis has another leader, or lost its data"
        # A reply that was lost leaves the same next epoch standing.
        if cast("bytes", reply).decode(errors="replace") not in {_epoch(term, term.epoch), next_}:
            return "Redis lost data"
        term.epoch += 1
        term.lasts_until_s = lasts_until_s
        return None

    async def resign(self) -> bool:
        """End this node's term, and wake the others; return whether there was one.

        A server that can't do it is left for a new connection, which may lead to another, until the time is up.
        """
        give_up_s = time.monotonic() + self._timing.redis_timeout_s
        while True:
            try:
                async with answered(max(0.0, give_up_s - time.monotonic())):
                    return bool(await self._resign(keys=(LEADER,), args=(self._node_id, SIGNALS)))
            except Unavailable:
                if time.monotonic() + self._timing.retry_first_s > give_up_s:
                    raise
            await asyncio.sleep(self._timing.retry_first_s)

    def _lasts_until_s(self) -> float:
        return time.monotonic() + self._timing.term_ms / 1000


def _epoch(term: Term, number: int) -> str:
    return f"{term.token}:{number}"
