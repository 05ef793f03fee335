"""The schedule: typed wrappers around the scripts, each of which is one decision made by Redis' clock."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import cast

from redis.asyncio import Redis

from peekaping_producer.asynq import keys as asynq
from peekaping_producer.asynq.message import task_id
from peekaping_producer.clock import monotonic_s
from peekaping_producer.errors import NotLeading, Unavailable
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.redisdb.client import answered, load_script
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
    REMOVED,
    SIGNALS,
    STEP,
)
from peekaping_producer.redisdb.replies import REFUSALS, code_of, reason_with_advice
from peekaping_producer.schedule.orders import (
    Claim,
    Claimed,
    Cursor,
    Drop,
    Enqueue,
    Entry,
    Late,
    Order,
    Overview,
    Peeked,
    Place,
    Placement,
    Release,
    Settlement,
    WrongKey,
)
from peekaping_producer.schedule.redis_clock import RedisClock, Step
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
"""A pending list up to here is searched by settle whenever that helps (task.lua)."""
LONGEST_TERM_MS = 10_000
"""How long another's leadership can last without an extension: a Go node's."""
_MOST_BROUGHT_BACK = 10_000
_CLOCKS_DIFFER_NS = 60_000_000_000
_RELIST_SEARCHES = 5
_RELIST_ENTRIES = 1_000_000
"""Searching so many entries of a list blocks Redis for about 20 ms."""


class Schedule:
    """The schedule in Redis. Every method raises Unavailable when Redis does not do it in time."""

    def __init__(self, redis: Redis, timing: Timing) -> None:
        """Take the client; scripts are loaded by the first call that needs them."""
        self._redis = redis
        self._timing = timing
        self._claim = load_script(redis, __package__, "time", "writable", "step", "claim")
        self._settle = load_script(redis, __package__, "time", "writable", "task", "settle")
        self._peek = load_script(redis, __package__, "time", "step", "healthy", "peek")
        self._claim_ids = load_script(redis, __package__, "time", "writable", "claim_ids")
        self._reclaim = load_script(redis, __package__, "time", "reclaim")
        self._schedule = load_script(redis, __package__, "time", "step", "schedule")
        self._remove = load_script(redis, __package__, "time", "task", "remove")
        self._relist = load_script(redis, __package__, "relist")
        self._repair = load_script(redis, __package__, "time", "repair")
        self._run_now = load_script(redis, __package__, "time", "run_now")
        self._note_step = load_script(redis, __package__, "time", "note_step")
        self._end_step = load_script(redis, __package__, "end_step")
        self._clock = RedisClock()

    async def claim(self, limit: int) -> Claim:
        """Claim at most `limit` due monitors. Never sent twice: a lost reply's batch comes back by reclaim."""
        timing = self._timing
        sent_s = monotonic_s()
        horizon_ms = self._clock.horizon_ms(sent_s)
        async with answered(timing.redis_timeout_s):
            reply = await self._claim(
                keys=(DUE, LEASE, CLAIMS, GO_SEEN, LEADER, STEP),
                args=(limit, timing.lease_ms, "" if horizon_ms is None else horizon_ms),
            )
        now_ms, token, next_due_ms, go_seen, by_ms, *pairs = (_text(part) for part in cast("list[bytes]", reply))
        return Claim(
            int(now_ms),
            token,
            float(next_due_ms) if next_due_ms else None,
            go_seen == "1",
            _with_due_times(pairs),
            time.monotonic(),
            self._clock.see(int(now_ms), sent_s, monotonic_s()),
            int(by_ms or 0),
        )

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
                keys=(DUE, HEALTHY, GO_SEEN, LEADER, STEP),
                args=(limit, "" if horizon_ms is None else horizon_ms, node_id, timing.yield_ms, *place),
            )
        now_ms, next_due_ms, go_seen, by_ms, *pairs = (_text(part) for part in cast("list[bytes]", reply))
        return Peeked(
            int(now_ms),
            float(next_due_ms) if next_due_ms else None,
            go_seen == "1",
            _with_due_times(pairs),
            time.monotonic(),
            self._clock.see(int(now_ms), sent_s, monotonic_s()),
            int(by_ms or 0),
        )

    async def claim_these(self, wanted: Sequence[Claimed]) -> Claim:
        """Claim those of these monitors that are still due. Never sent twice, as `claim`.

        Their ids are a database's, with no space in them.
        """
        timing = self._timing
        async with answered(timing.redis_timeout_s):
            reply = await self._claim_ids(
                keys=(DUE, LEASE, CLAIMS, GO_SEEN, LEADER), args=(timing.lease_ms, " ".join([one.id for one in wanted]))
            )
        now_ms, token, go_seen, *others = (_text(part) for part in cast("list[bytes]", reply))
        refused = set(others)
        claimed = tuple([one for one in wanted if one.id not in refused] if refused else wanted)
        return Claim(int(now_ms), token, None, go_seen == "1", claimed, time.monotonic())

    async def settle(
        self, claim: Claim, orders: Sequence[Order], on_failure: Callable[[Unavailable], None] = lambda _error: None
    ) -> Settlement:
        """Carry out one order for each claimed monitor that is still ours.

        What got no reply, or was refused for a reason that is not the monitor's own, is tried again until the lease
        has ended; then `lost` says no more than `unknown`. `on_failure` is called with each try's error.
        """
        lease_ends_s = claim.answered_at_s + self._timing.lease_ms / 1000
        settled = _Settled(orders)
        while True:
            try:
                async with answered(self._timing.redis_timeout_s):
                    reply = await self._settle_once(claim, settled.unsettled)
                settled.take(reply)
                if not settled.unsettled:
                    return settled.settlement()
                error = Unavailable("redis", reason_with_advice(settled.reason), code_of(settled.reason))
            except Unavailable as no_reply:
                error = no_reply
            settled.asked_again = True
            on_failure(error)
            if time.monotonic() + self._timing.retry_first_s > lease_ends_s:
                if not settled.answered:
                    raise error
                return settled.settlement()
            await asyncio.sleep(self._timing.retry_first_s)

    async def _settle_once(self, claim: Claim, orders: Sequence[Order]) -> Sequence[int | bytes]:
        keys = (*_TASK_KEYS, *(_TASK_KEY_PREFIX + order.id for order in orders), LEFT, REMOVED)
        args: list[str | int | bytes] = [
            claim.token,
            asynq.QUEUE,
            _TASK_ID_PREFIX,
            asynq.GROUP,
            self._timing.postpone_ms,
            SIGNALS,
        ]
        for order in orders:
            args += _order_args(order)
        return cast("Sequence[int | bytes]", await self._settle(keys=keys, args=args))

    async def reclaim(self) -> int:
        """Put claims that have ended back into due; return how many, bounded by the timing's limit a kind."""
        timing = self._timing
        async with answered(timing.redis_timeout_s):
            reply = await self._reclaim(
                keys=(DUE, LEASE), args=(timing.reclaim_limit, timing.lease_ms, timing.far_lease_ms)
            )
        return cast("int", reply)

    async def schedule(self, node_id: str, entries: Sequence[Entry]) -> list[Placement]:
        """Bring monitors into the schedule, in the name of the node that leads; what is right already stays.

        Raises NotLeading, and changes nothing, when another node leads.
        """
        args: list[str | int] = [node_id, SIGNALS, int(self._timing.claim_wait_s * 1000)]
        for entry in entries:
            args += (entry.id, entry.cadence.period_ms, entry.cadence.phase_ms)
            args += ("now" if entry.at_once else "", _edit(entry))
        async with answered(self._timing.redis_timeout_s):
            reply = await self._schedule(keys=(DUE, LEASE, LEADER, REMOVED, STEP), args=args)
        return [cast("Placement", _text(part)) for part in cast("list[bytes]", _led(reply))]

    async def remove(self, node_id: str, drops: Sequence[Drop]) -> int:
        """Take monitors out of the schedule, whoever claims them now; return how many were in it.

        Raises NotLeading, and changes nothing, when another node leads.
        """
        keys = (*_TASK_KEYS, *(_TASK_KEY_PREFIX + drop.id for drop in drops), LEFT, LEADER, REMOVED)
        args: list[str | int | bytes] = [node_id, _TASK_ID_PREFIX, self._timing.tombstone_ms]
        for drop in drops:
            args += (drop.id, drop.stale_message)
        async with answered(self._timing.redis_timeout_s):
            reply = await self._remove(keys=keys, args=args)
        return cast("int", _led(reply))

    async def relist(self, node_id: str, ids: Sequence[MonitorId]) -> int:
        """Put back into a long pending list tasks of these monitors that are missing in it; return how many.

        A few at a time, since each is searched for. Raises NotLeading, and changes nothing, when another node leads;
        while the list is short there is nothing to do, whoever leads.
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

        Each id that is there from the first page to the last is in one of them, some in two.
        """
        key, position = cursor or (DUE, 0)
        async with answered(self._timing.redis_timeout_s):
            position, pairs = await self._redis.zscan(key, position, count=count)
        ids = [MonitorId(_text(cast("bytes", id_))) for id_, _ in pairs]
        if position:
            return ids, (key, position)
        return ids, (LEASE, 0) if key == DUE else None

    async def repair(self) -> list[WrongKey]:
        """Rename keys of ours that hold another type than they should; return these, and those of asynq's that do."""
        keys = (*OUR_TYPES, *asynq.TYPES)
        types = (*OUR_TYPES.values(), *asynq.TYPES.values())
        async with answered(self._timing.redis_timeout_s):
            reply = cast("list[bytes]", await self._repair(keys=keys, args=(len(OUR_TYPES), *types)))
        parts = [_text(part) for part in reply]
        return [WrongKey(*found) for found in zip(parts[::3], parts[1::3], parts[2::3], strict=True)]

    async def note_go_node(self) -> None:
        """Leave the mark that a Go producer runs beside us, for all nodes to see."""
        async with answered(self._timing.redis_timeout_s):
            await self._redis.set(GO_SEEN, 1, px=self._timing.go_seen_ms)

    async def note_step(self, step: Step) -> bool:
        """Let all nodes know of a step of Redis' clock, and the leader sweep; False where another node has done so."""
        timing = self._timing
        limits = (LONGEST_TERM_MS, timing.go_seen_ms, timing.alive_ms, _MOST_BROUGHT_BACK)
        async with answered(timing.redis_timeout_s):
            reply = await self._note_step(
                keys=(STEP, LEADER, GO_SEEN, REMOVED, NODES, HEALTHY),
                args=(step.at_ms, step.by_ms, timing.step_open_ms, SIGNALS, *limits),
            )
        return bool(reply)

    async def step_noted_ms(self) -> int | None:
        """Return when the last step of Redis' clock was noted; None where there is none, or it is long ago."""
        async with answered(self._timing.redis_timeout_s):
            noted_ms = await self._redis.hget(STEP, "noted_ms")
        return None if noted_ms is None else int(noted_ms)

    async def end_step(self, node_id: str, noted_ms: int) -> None:
        """Note that a sweep has been made since that step. Raises NotLeading when another node leads."""
        async with answered(self._timing.redis_timeout_s):
            _led(await self._end_step(keys=(LEADER, STEP), args=(node_id, noted_ms)))

    async def run_now(self, ids: Sequence[MonitorId]) -> list[bool]:
        """Make active monitors due at once; False for one that is claimed this very moment, and so is due already."""
        async with answered(self._timing.redis_timeout_s):
            reply = await self._run_now(keys=(DUE, LEASE), args=(SIGNALS, *ids))
        return [bool(part) for part in cast("list[int]", reply)]

    async def place_of(self, id_: MonitorId) -> Place:
        """Tell where a monitor stands in the schedule."""
        async with answered(self._timing.redis_timeout_s), self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zscore(DUE, id_)
            pipe.zscore(LEASE, id_)
            pipe.get(LEADER)
            pipe.exists(GO_SEEN)
            (seconds, micros), due_ms, lease_ms, leader, go_seen = await pipe.execute()
        return Place(
            now_ms=seconds * 1000 + micros // 1000,
            due_ms=due_ms,
            lease_ms=lease_ms,
            leader=None if leader is None else _text(leader),
            go_seen=bool(go_seen),
        )

    async def next_runs(self, count: int) -> list[Claimed]:
        """Return the monitors that are due next, the first one first."""
        async with answered(self._timing.redis_timeout_s):
            pairs = await self._redis.zrange(DUE, 0, count - 1, withscores=True)
        return [Claimed(MonitorId(_text(id_)), due_ms) for id_, due_ms in cast("list[tuple[bytes, float]]", pairs)]

    async def late(self, now_ms: int, for_ms: int, limit: int) -> Late:
        """Find the monitors that have been overdue for more than `for_ms`, and at most `limit` of the first.

        A claimed one counts from the end of its claim.
        """
        async with answered(self._timing.redis_timeout_s), self._redis.pipeline(transaction=False) as pipe:
            for key in (DUE, LEASE):
                pipe.zcount(key, "-inf", f"({now_ms - for_ms}")
                pipe.zrangebyscore(key, "-inf", f"({now_ms}", 0, limit, withscores=True)
            due, due_pairs, leased, lease_pairs = await pipe.execute()
        pairs = cast("list[tuple[bytes, float]]", sorted((*due_pairs, *lease_pairs), key=lambda pair: pair[1]))
        first = [Claimed(MonitorId(_text(id_)), ms) for id_, ms in pairs[:limit] if ms < now_ms - for_ms]
        return Late(due + leased, pairs[0][1] if pairs else None, first)

    async def overview(self) -> Overview:
        """Count the schedule and find its longest overdue monitor."""
        async with answered(self._timing.redis_timeout_s), self._redis.pipeline(transaction=False) as pipe:
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


def _with_due_times(pairs: Sequence[str]) -> tuple[Claimed, ...]:
    """Return the monitors of a reply that has each id with its due time behind it."""
    return tuple([Claimed(MonitorId(id_), float(due_ms)) for id_, due_ms in zip(pairs[::2], pairs[1::2], strict=True)])


def _edit(entry: Entry) -> str:
    if entry.period_changed:
        return "period"
    return "edited" if entry.edited else ""


def _led(reply: object) -> object:
    if reply is None:
        raise NotLeading
    return reply


def _order_args(order: Order) -> tuple[str, MonitorId, int | str, int | str, bytes]:
    if isinstance(order, Enqueue):
        return (
            "cached" if order.from_cache else "enqueue",
            order.id,
            order.cadence.period_ms,
            order.cadence.phase_ms,
            order.message,
        )
    if isinstance(order, Release):
        return "release", order.id, order.delay_ms, "", b""
    return "drop", order.id, "", "", order.stale_message


class _Settled:
    """What became of the orders of one settle, over all its tries."""

    def __init__(self, orders: Sequence[Order]) -> None:
        self.asked_again = False
        self.reason = ""
        """Why Redis refused what is unsettled."""
        self._orders = orders
        self._now_ms = 0
        self._outcomes: list[Outcome | None] = [None] * len(orders)
        self._failures: dict[MonitorId, str] = {}
        self._unsettled = list(range(len(orders)))

    @property
    def unsettled(self) -> list[Order]:
        """The orders that got no reply yet, or were refused for a reason that is not theirs."""
        return [self._orders[place] for place in self._unsettled]

    @property
    def answered(self) -> bool:
        """Tell whether there was a reply at all."""
        return None not in self._outcomes

    def take(self, reply: Sequence[int | bytes]) -> None:
        """Take in the reply of one try, an outcome for each unsettled order."""
        self._now_ms = cast("int", reply[0])
        asked, self._unsettled = self._unsettled, []
        for place, part in zip(asked, cast("Sequence[bytes]", reply[1:]), strict=True):
            name, _, reason = _text(part).partition(":")
            outcome, id_ = _OUTCOMES[name], self._orders[place].id
            self._failures.pop(id_, None)
            if outcome is Outcome.FAILED:
                self._failures[id_] = reason_with_advice(reason)
                if code_of(reason) in REFUSALS:
                    self._unsettled.append(place)
                    self.reason = reason
            elif outcome is Outcome.LOST and self.asked_again:
                outcome = Outcome.UNKNOWN
            self._outcomes[place] = outcome

    def settlement(self) -> Settlement:
        return Settlement(self._now_ms, tuple(outcome for outcome in self._outcomes if outcome), self._failures)


_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


def _text(part: bytes) -> str:
    return part.decode("utf-8", "surrogateescape")
