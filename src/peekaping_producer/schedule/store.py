"""The schedule in Redis: typed wrappers around the scripts, each of which is one decision made by Redis' clock."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from redis.asyncio import Redis

from peekaping_producer.asynq import keys as asynq
from peekaping_producer.asynq.message import task_id
from peekaping_producer.clock import monotonic_s
from peekaping_producer.errors import NotLeading, Unavailable
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.client import answered, load_script, text_of
from peekaping_producer.redisdb.keys import (
    CLAIMS,
    DUE,
    GO_SEEN,
    HEALTHY,
    LEADER,
    LEASE,
    LEFT,
    NODES,
    OUR_TYPES,
    PAUSE,
    REMOVED,
    SIGNALS,
    STEP,
)
from peekaping_producer.redisdb.replies import code_of, reason_with_advice
from peekaping_producer.schedule.orders import (
    Claim,
    Claimed,
    Cursor,
    Drop,
    Entry,
    Order,
    Peeked,
    Placement,
    Settlement,
    WrongKey,
)
from peekaping_producer.schedule.pause import Pause, pause_of
from peekaping_producer.schedule.redis_clock import RedisClock, Step
from peekaping_producer.schedule.settling import Settling, arguments_of
from peekaping_producer.timing import Timing

_TASK_KEYS = (
    DUE,
    LEASE,
    asynq.QUEUES,
    asynq.PENDING,
    asynq.ACTIVE,
    asynq.LEASE,
    asynq.SCHEDULED,
    asynq.RETRY,
    asynq.ARCHIVED,
    asynq.COMPLETED,
    asynq.WORKERS,
)
_TASK_ID_PREFIX = task_id(MonitorId(""))
_TASK_KEY_PREFIX = asynq.TASK + _TASK_ID_PREFIX
SHORT_LIST = 1_000
"""A pending list up to this length is searched whenever that helps."""
LONGEST_TERM_MS = 10_000
"""How long another node's leadership can last without an extension: a Go node's."""
_MOST_BROUGHT_BACK = 10_000
_CLOCKS_DIFFER_NS = 60_000_000_000
_RELIST_SEARCHES = 5
_RELIST_ENTRIES = 1_000_000
"""Searching this many entries of a list blocks Redis for about 20 ms."""


class Schedule:
    """The schedule in Redis. Every method raises Unavailable if Redis does not answer in time."""

    def __init__(self, redis: Redis, timing: Timing) -> None:
        """Take the client; scripts are loaded by the first call that needs them."""
        self._redis = redis
        self._timing = timing
        self._claim = load_script(redis, __package__, "time", "writable", "step", "go_node", "lease", "paused", "claim")
        self._settle = load_script(redis, __package__, "time", "writable", "task", "settle")
        self._peek = load_script(redis, __package__, "time", "step", "healthy", "go_node", "paused", "peek")
        self._claim_ids = load_script(redis, __package__, "time", "writable", "go_node", "lease", "paused", "claim_ids")
        self._reclaim = load_script(redis, __package__, "time", "reclaim")
        self._schedule = load_script(redis, __package__, "time", "step", "schedule")
        self._remove = load_script(redis, __package__, "time", "task", "remove")
        self._relist = load_script(redis, __package__, "relist")
        self._repair = load_script(redis, __package__, "time", "repair")
        self._run_now = load_script(redis, __package__, "time", "run_now")
        self._note_step = load_script(redis, __package__, "time", "note_step")
        self._end_step = load_script(redis, __package__, "end_step")
        self._clock = RedisClock()
        self._drained_ms = 0

    # What every node does.

    async def claim(self, limit: int) -> Claim:
        """Claim at most `limit` due monitors. Never sent twice: the batch of a lost reply expires (invariant 3)."""
        timing = self._timing
        sent_s = monotonic_s()
        horizon_ms = self._clock.horizon_ms(sent_s)
        async with answered(timing.redis_timeout_s):
            reply = await self._claim(
                keys=(DUE, LEASE, CLAIMS, GO_SEEN, LEADER, STEP, PAUSE),
                args=(limit, timing.lease_ms, "" if horizon_ms is None else horizon_ms),
            )
        head, pause, pairs = _parts(reply)
        now_ms, token, next_due_ms, go_seen, by_ms = head
        claim = Claim(
            int(now_ms),
            token,
            float(next_due_ms) if next_due_ms else None,
            go_seen == "1",
            _with_due_times(pairs),
            time.monotonic(),
            self._clock.see(int(now_ms), sent_s, monotonic_s()),
            int(by_ms or 0),
            pause,
            self._drained_ms,
        )
        if claim.step or claim.behind_ms:
            self._drained_ms = 0
        elif len(claim.claimed) < limit and not pause:
            self._drained_ms = claim.now_ms
        return claim

    async def peek(self, node_id: str, after: Claimed | None, limit: int) -> Peeked:
        """Read at most `limit` due monitors behind `after`, or from the beginning, and claim none of them.

        What another node with a healthy database is about to claim is left out.
        """
        timing = self._timing
        place = (after.due_ms, after.id) if after else ("", "")
        sent_s = monotonic_s()
        horizon_ms = self._clock.horizon_ms(sent_s)
        async with answered(timing.redis_timeout_s):
            reply = await self._peek(
                keys=(DUE, HEALTHY, GO_SEEN, LEADER, STEP, PAUSE),
                args=(limit, "" if horizon_ms is None else horizon_ms, node_id, timing.yield_ms, *place),
            )
        head, pause, pairs = _parts(reply)
        now_ms, next_due_ms, go_seen, by_ms = head
        return Peeked(
            int(now_ms),
            float(next_due_ms) if next_due_ms else None,
            go_seen == "1",
            _with_due_times(pairs),
            time.monotonic(),
            self._clock.see(int(now_ms), sent_s, monotonic_s()),
            int(by_ms or 0),
            pause,
        )

    async def claim_these(self, wanted: Sequence[Claimed]) -> Claim:
        """Claim those of these monitors that are still due. Like `claim`, never sent twice.

        The ids are valid, so they contain no space.
        """
        timing = self._timing
        async with answered(timing.redis_timeout_s):
            reply = await self._claim_ids(
                keys=(DUE, LEASE, CLAIMS, GO_SEEN, LEADER, PAUSE),
                args=(timing.lease_ms, " ".join([one.id for one in wanted])),
            )
        head, pause, others = _parts(reply)
        now_ms, token, go_seen = head
        refused = set(others)
        claimed = tuple([one for one in wanted if one.id not in refused] if refused else wanted)
        return Claim(int(now_ms), token, None, go_seen == "1", claimed, time.monotonic(), pause=pause)

    async def settle(
        self, claim: Claim, orders: Sequence[Order], on_failure: Callable[[Unavailable], None] = lambda _error: None
    ) -> Settlement:
        """Carry out one order for each claimed monitor that is still ours.

        An order that got no reply, or was refused for a reason that is not its monitor's own, is tried again until the
        lease expires; after a retry, a `lost` claim counts as `unknown`. `on_failure` is called with each try's error.
        """
        lease_ends_s = claim.answered_at_s + self._timing.lease_ms / 1000
        settling = Settling(orders)
        while True:
            try:
                async with answered(self._timing.redis_timeout_s):
                    reply = await self._settle_once(claim, settling.unsettled)
                settling.take(reply)
                if not settling.unsettled:
                    return settling.settlement()
                error = Unavailable("redis", reason_with_advice(settling.reason), code_of(settling.reason))
            except Unavailable as no_reply:
                error = no_reply
            settling.retried = True
            on_failure(error)
            if time.monotonic() + self._timing.retry_first_s > lease_ends_s:
                if not settling.answered:
                    raise error
                return settling.settlement()
            await asyncio.sleep(self._timing.retry_first_s)

    async def _settle_once(self, claim: Claim, orders: Sequence[Order]) -> Sequence[int | bytes]:
        keys = (*_TASK_KEYS, *(_TASK_KEY_PREFIX + order.id for order in orders), LEFT, REMOVED)
        args: list[str | int | bytes] = [
            SHORT_LIST,
            _TASK_ID_PREFIX,
            claim.token,
            asynq.QUEUE,
            asynq.GROUP,
            self._timing.postpone_ms,
            SIGNALS,
        ]
        for order in orders:
            args += arguments_of(order)
        return cast("Sequence[int | bytes]", await self._settle(keys=keys, args=args))

    async def reclaim(self) -> int:
        """Put expired claims back into due; return how many, at most the timing's limit of each kind."""
        timing = self._timing
        async with answered(timing.redis_timeout_s):
            reply = await self._reclaim(
                keys=(DUE, LEASE), args=(timing.reclaim_limit, timing.lease_ms, timing.far_lease_ms)
            )
        return cast("int", reply)

    async def repair(self) -> list[WrongKey]:
        """Rename keys of ours that hold the wrong type; return them, and those of asynq's that do."""
        keys = (*OUR_TYPES, *asynq.TYPES)
        types = (*OUR_TYPES.values(), *asynq.TYPES.values())
        async with answered(self._timing.redis_timeout_s):
            reply = cast("list[bytes]", await self._repair(keys=keys, args=(len(OUR_TYPES), *types)))
        parts = [text_of(part) for part in reply]
        return [WrongKey(*found) for found in zip(parts[::3], parts[1::3], parts[2::3], strict=True)]

    async def note_go_node(self) -> None:
        """Leave the mark that a Go producer runs beside us, for all nodes to see."""
        async with answered(self._timing.redis_timeout_s):
            await self._redis.set(GO_SEEN, 1, px=self._timing.go_seen_ms)

    async def note_step(self, step: Step) -> bool:
        """Note a step of Redis' clock for all nodes, and wake the leader; return False if another node has done so."""
        timing = self._timing
        limits = (LONGEST_TERM_MS, timing.go_seen_ms, timing.alive_ms, _MOST_BROUGHT_BACK)
        async with answered(timing.redis_timeout_s):
            reply = await self._note_step(
                keys=(STEP, LEADER, GO_SEEN, REMOVED, NODES, HEALTHY, PAUSE),
                args=(step.at_ms, step.by_ms, timing.step_open_ms, SIGNALS, *limits),
            )
        return bool(reply)

    async def run_now(self, ids: Sequence[MonitorId]) -> list[bool]:
        """Make active monitors due at once; False for one that is claimed at this moment."""
        async with answered(self._timing.redis_timeout_s):
            reply = await self._run_now(keys=(DUE, LEASE), args=(SIGNALS, *ids))
        return [bool(part) for part in cast("list[int]", reply)]

    # What a leader does (invariant 9).

    async def schedule(self, node_id: str, entries: Sequence[Entry], lost_ms: int = 0) -> list[Placement]:
        """Bring monitors into the schedule, and leave alone what is right already.

        A monitor that is missing from it gets its first slot of the last `lost_ms`, in which the schedule was lost, or
        else its next one. Raises NotLeading, and changes nothing, if this node does not lead.
        """
        args: list[str | int] = [node_id, SIGNALS, int(self._timing.claim_wait_s * 1000), lost_ms]
        for entry in entries:
            args += (entry.id, entry.cadence.period_ms, entry.cadence.phase_ms)
            args += ("now" if entry.at_once else "", _edit(entry))
        async with answered(self._timing.redis_timeout_s):
            reply = await self._schedule(keys=(DUE, LEASE, LEADER, REMOVED, STEP), args=args)
        return [cast("Placement", text_of(part)) for part in cast("list[bytes]", _led(reply))]

    async def remove(self, node_id: str, drops: Sequence[Drop]) -> int:
        """Take monitors out of the schedule, even if they are claimed; return how many were in it.

        Raises NotLeading, and changes nothing, if this node does not lead.
        """
        keys = (*_TASK_KEYS, *(_TASK_KEY_PREFIX + drop.id for drop in drops), LEFT, LEADER, REMOVED)
        args: list[str | int | bytes] = [SHORT_LIST, _TASK_ID_PREFIX, node_id, self._timing.tombstone_ms]
        for drop in drops:
            args += (drop.id, drop.stale_message)
        async with answered(self._timing.redis_timeout_s):
            reply = await self._remove(keys=keys, args=args)
        return cast("int", _led(reply))

    async def relist(self, node_id: str, ids: Sequence[MonitorId]) -> int:
        """Put tasks of these monitors that are missing from a long pending list back into it; return how many.

        A few at a time, since each is searched for. Raises NotLeading, and changes nothing, if this node does not lead;
        while the list is short there is nothing to do, whichever node leads.
        """
        async with answered(self._timing.redis_timeout_s):
            if await self._redis.llen(asynq.PENDING) <= SHORT_LIST:
                return 0
        keys = (LEADER, asynq.PENDING, *(_TASK_KEY_PREFIX + id_ for id_ in ids))
        limits = (SHORT_LIST, _CLOCKS_DIFFER_NS, _RELIST_SEARCHES, _RELIST_ENTRIES)
        args: tuple[str | int, ...] = (node_id, *limits, *(_TASK_ID_PREFIX + id_ for id_ in ids))
        async with answered(self._timing.redis_timeout_s):
            return cast("int", _led(await self._relist(keys=keys, args=args)))

    async def members(self, cursor: Cursor | None, count: int) -> tuple[list[MonitorId], Cursor | None]:
        """Return about `count` ids of the schedule, and where to go on; None at the end.

        Each id that is there from the first page to the last is in at least one of them.
        """
        key, position = cursor or (DUE, 0)
        async with answered(self._timing.redis_timeout_s):
            position, pairs = await self._redis.zscan(key, position, count=count)
        ids = [MonitorId(text_of(cast("bytes", id_))) for id_, _ in pairs]
        if position:
            return ids, (key, position)
        return ids, (LEASE, 0) if key == DUE else None

    async def step_noted_ms(self) -> int | None:
        """Return when the last step of Redis' clock was noted; None if there is none, or it is too old to count."""
        async with answered(self._timing.redis_timeout_s):
            noted_ms = await self._redis.hget(STEP, "noted_ms")
        return None if noted_ms is None else int(noted_ms)

    async def end_step(self, node_id: str, noted_ms: int) -> None:
        """Note that a sweep has been made since that step. Raises NotLeading if this node does not lead."""
        async with answered(self._timing.redis_timeout_s):
            _led(await self._end_step(keys=(LEADER, STEP), args=(node_id, noted_ms)))


def _parts(reply: object) -> tuple[list[str], Pause | None, list[str]]:
    """Return what comes before the pause in a reply, the pause, and what comes after it."""
    parts = cast("list[Any]", reply)
    at = next(number for number, part in enumerate(parts) if isinstance(part, list))
    before, after = ([text_of(part) for part in some] for some in (parts[:at], parts[at + 1 :]))
    return before, pause_of(parts[at]), after


def _with_due_times(pairs: Sequence[str]) -> tuple[Claimed, ...]:
    """Return the monitors of a reply in which each id is followed by its due time."""
    return tuple([Claimed(MonitorId(id_), float(due_ms)) for id_, due_ms in zip(pairs[::2], pairs[1::2], strict=True)])


def _edit(entry: Entry) -> str:
    if entry.period_changed:
        return "period"
    if entry.edited:
        return "edited"
    return "" if entry.retry_ms is None else str(entry.retry_ms)


def _led(reply: object) -> object:
    if reply is None:
        raise NotLeading
    return reply
