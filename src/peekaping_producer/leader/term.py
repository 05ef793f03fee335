"""A term of leadership: taken, extended and resigned in Redis, where it expires by Redis' clock.

This node stops trusting it earlier, by its monotonic clock: the time counts from before the request was sent
(invariant 9).
"""

import asyncio
import re
import secrets
import time
from typing import cast

from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.errors import Unavailable
from peekaping_producer.node.stop import Stop
from peekaping_producer.redisdb.client import answered, load_script
from peekaping_producer.redisdb.keys import DUE, EPOCH, GO_SEEN, HEALTHY, LEADER, LEASE, LEFT, SIGNALS
from peekaping_producer.schedule.store import LONGEST_TERM_MS
from peekaping_producer.timing import Timing

_EPOCH = re.compile(rb"([0-9]{1,15}):[0-9a-f]+:([0-9]{1,15})")
_EMPTY = "Redis has lost its data"
_OLDER = "Redis has older data than before: it was restored, or a replica that lagged took over"
_MUCH = 10
"""If more than one monitor in this many is missing after a second, they were not removed one by one."""


class Term:
    """The time in which a node leads. Redis fences its writes, too: a suspended process may wake up after the end."""

    def __init__(self, node_id: str, lasts_until_s: float) -> None:
        """Begin; `lasts_until_s` by the monotonic clock."""
        self.node_id = node_id
        self.ended = Stop()
        """Set at the end; duties wait on this, and check `is_over` before they go on."""
        self.lasts_until_s = lasts_until_s
        self.epoch = 0
        """The number of the last extension that Redis has confirmed."""
        self.token = secrets.token_hex(8)
        self.generation = 0
        """Redis' time when it began, Unix ms, and more than that of the term before."""
        self.lost: str | None = None
        """Why Redis must have lost the schedule before the term began; None if nothing says so."""
        self.left = 0
        """Monitors that settles and removals took out of the schedule, up to the last extension."""
        self._size = 0

    @property
    def is_over(self) -> bool:
        """Whether this node no longer leads."""
        return bool(self.ended) or time.monotonic() >= self.lasts_until_s

    def expect(self, monitors: int) -> None:
        """Note that a sweep has just found this many monitors in the schedule."""
        self._size = max(self._size, monitors)

    def has_shrunk(self, due: int, leased: int, left: int) -> bool:
        """Return whether so many monitors went missing since the last extension that a key may have been deleted.

        Those that left by a settle or a removal are not missing: invalid ones are brought back by each sweep, and leave
        again.
        """
        before, self._size = self._size, due + leased
        left_before, self.left = self.left, left
        gone = before - self._size - max(0, left - left_before)
        return gone > 0 and (due == 0 or gone * _MUCH > before)


class Other(Struct, frozen=True):
    """Another node leads."""

    node_id: str
    left_s: float
    """How long its term lasts if it is not extended."""


class Extension(Struct, frozen=True):
    """A term goes on."""

    due: int
    """Monitors in due; -1 if the key has the wrong type."""
    leased: int
    left: int
    """Monitors that settles and removals took out of the schedule so far; -1 if the key has the wrong type."""


class Terms:
    """The leader key. Every method raises Unavailable if Redis does not answer in time."""

    def __init__(self, redis: Redis, node_id: str, timing: Timing) -> None:
        """Act in the name of this node."""
        self._node_id = node_id
        self._timing = timing
        self._extend = load_script(redis, __package__, "left", "extend")
        self._take = load_script(redis, __package__, "time", "healthy", "go_node", "left", "take")
        self._resign = load_script(redis, __package__, "time", "healthy", "resign")
        self._seen: tuple[int, int] | None = None
        """Generation and number of the newest epoch that this node has seen in Redis."""
        self._lost: str | None = None
        """A loss that is still to be logged, if this node leads next."""

    async def take(self, *, healthy: bool = True) -> Term | Other | None:
        """Begin a term if nobody leads, or if this node's own term is still in Redis.

        None if the term is left to another node, whose database is available while this one's is not.
        """
        timing = self._timing
        term = Term(self._node_id, self._lasts_until_s())
        async with answered(timing.redis_timeout_s):
            reply = await self._take(
                keys=(LEADER, EPOCH, GO_SEEN, DUE, LEASE, HEALTHY, LEFT),
                args=(
                    self._node_id,
                    timing.term_ms,
                    term.token,
                    LONGEST_TERM_MS,
                    timing.go_seen_ms,
                    "" if healthy else "unhealthy",
                ),
            )
        holder, left_ms, epoch, *more = cast("list[bytes]", reply)
        if holder:
            self._see_another(_place_of(epoch))
            return Other(holder.decode(errors="replace"), int(left_ms) / 1000)
        if int(left_ms):
            return None
        size, term.generation, term.left = cast("list[int]", more)
        term.lost = self._lost or self._loss(_place_of(epoch), size)
        self._seen, self._lost = (term.generation, 0), None
        return term

    def _see_another(self, found: tuple[int, int] | None) -> None:
        """Note how far another node's term has come; a node that leads after a loss has logged it."""
        if found and self._seen:
            if found < self._seen:
                self._lost = _OLDER
            elif found > self._seen:
                self._lost = None
        self._seen = found or self._seen

    def _loss(self, found: tuple[int, int] | None, size: int) -> str | None:
        """Return why Redis must have lost data since this node last saw an epoch; None if it need not have."""
        if self._seen is None:
            return None
        if found is None:
            return None if size else _EMPTY
        return _OLDER if found < self._seen else None

    async def extend(self, term: Term) -> Extension | str:
        """Extend the term; if it is over, return why."""
        lasts_until_s = self._lasts_until_s()
        left_s = term.lasts_until_s - time.monotonic()
        async with answered(min(self._timing.redis_timeout_s, max(0.0, left_s))):
            next_ = _epoch(term, term.epoch + 1)
            reply = await self._extend(
                keys=(LEADER, EPOCH, DUE, LEASE, LEFT), args=(self._node_id, self._timing.term_ms, next_)
            )
        if reply is None:
            return "another node leads now, or Redis has lost its data"
        before, due, leased, left = cast("tuple[bytes, int, int, int]", reply)
        # If a reply was lost, Redis already has the next epoch.
        if before.decode(errors="replace") not in {_epoch(term, term.epoch), next_}:
            self._lost = self._loss(_place_of(before), due + leased)
            return "Redis lost data"
        term.epoch += 1
        term.lasts_until_s = lasts_until_s
        self._seen = (term.generation, term.epoch)
        return Extension(due, leased, left)

    async def resign(self, *, to_healthy: bool = False) -> bool:
        """End this node's term and wake the others; return whether there was a term.

        With `to_healthy`, only if another node has a healthy database. If the server can't do it, this is tried again
        on a new connection, which may lead to another server, until the time is up.
        """
        condition = "to a healthy node" if to_healthy else ""
        give_up_s = time.monotonic() + self._timing.redis_timeout_s
        while True:
            try:
                async with answered(max(0.0, give_up_s - time.monotonic())):
                    return bool(await self._resign(keys=(LEADER, HEALTHY), args=(self._node_id, SIGNALS, condition)))
            except Unavailable:
                if time.monotonic() + self._timing.retry_first_s > give_up_s:
                    raise
            await asyncio.sleep(self._timing.retry_first_s)

    def _lasts_until_s(self) -> float:
        return time.monotonic() + self._timing.term_ms / 1000


def _epoch(term: Term, number: int) -> str:
    return f"{term.generation}:{term.token}:{number}"


def _place_of(epoch: bytes) -> tuple[int, int] | None:
    """Return the generation and number of an epoch; None if there is none, or it has another format."""
    found = _EPOCH.fullmatch(epoch)
    return (int(found[1]), int(found[2])) if found else None
