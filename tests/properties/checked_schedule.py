"""Our schedule, each of whose operations must change Redis exactly as the model says, and report the same."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from msgspec.structs import asdict, replace
from redis.asyncio import Redis

from peekaping_producer.errors import NotLeading, Unavailable
from peekaping_producer.model.cadence import Cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.schedule.orders import (
    Claim,
    Claimed,
    Drop,
    Enqueue,
    Entry,
    Order,
    Peeked,
    Placement,
    Release,
    Settlement,
)
from peekaping_producer.schedule.redis_clock import STEP_MS, Step
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.timing import Timing
from properties import model
from properties.model import ALLOWANCE_MS, Grid, State, claimable
from properties.reached import outcome_of, placement_of

LONG_AGO_S = -1e9
"""As the time at which a claim was answered, it makes a settle give up at once instead of trying again."""


class HostClock:
    """This host's monotonic clock, which nobody steps, in place of the `time` module where our code reads it."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def monotonic(self) -> float:
        return self.now_ms / 1000


class CheckedSchedule(Schedule):
    """One node's schedule."""

    def __init__(
        self,
        redis: Redis,
        timing: Timing,
        host: HostClock,
        state: Callable[[], State],
        tokens: set[float],
        reached: Counter[str],
    ) -> None:
        """`tokens` are those of all claims so far, of all nodes; outcomes and placements are counted in `reached`."""
        super().__init__(redis, timing)
        self._reached = reached
        self._times, self._host, self._state, self._tokens = timing, host, state, tokens
        self._last: tuple[int, int] | None = None
        self.on_write: Callable[[Sequence[MonitorId]], None] = lambda _ids: None
        """Called with the monitors that a leader has written."""
        self.on_removed: Callable[[Sequence[MonitorId]], None] = lambda _ids: None
        """Called with those that it has removed."""
        self.writing = 0
        self.reply_lost = False
        """Whether the next settle gets no reply, and is tried again."""
        self.carried_out: list[Outcome] = []
        """What really became of the orders of the last settle."""

    # --- claims

    async def claim(self, limit: int) -> Claim:
        before = self._state()
        claim = await super().claim(limit)
        self._check_taken(before, claim.claimed, limit)
        assert claim.go_seen == (before.go_seen or is_go(before.leader))
        self._check_claim(before, claim)
        self._check_clock(claim.now_ms, claim.step, before)
        return replace(claim, answered_at_s=LONG_AGO_S)

    async def peek(self, node_id: str, after: Claimed | None, limit: int) -> Peeked:
        before = self._state()
        peeked = await super().peek(node_id, after, limit)
        if after is None:
            self._check_taken(before, peeked.due, limit)
        same(before, self._state())
        self._check_clock(peeked.now_ms, peeked.step, before)
        return peeked

    async def claim_these(self, wanted: Sequence[Claimed]) -> Claim:
        before = self._state()
        claim = await super().claim_these(wanted)
        assert {one.id for one in claim.claimed} == {
            one.id for one in wanted if before.due.get(one.id, float("inf")) <= before.now_ms
        }
        self._check_claim(before, claim)
        return replace(claim, answered_at_s=LONG_AGO_S)

    def _check_taken(self, before: State, taken: Sequence[Claimed], limit: int) -> None:
        """Invariant 8: what is due is taken, oldest first, but nothing that only a step of the clock made overdue."""
        reach_ms = float("inf")
        if self._last:
            reach_ms = self._last[0] + (self._host.now_ms - self._last[1]) + ALLOWANCE_MS
        found = [(one.id, one.due_ms) for one in taken]
        # Seconds do not convert exactly to milliseconds.
        assert found in [claimable(before, reach)[:limit] for reach in (reach_ms, reach_ms - 1)]

    def _check_claim(self, before: State, claim: Claim) -> None:
        after, expected = self._state(), before.copy()
        if claim.claimed:
            token = float(claim.token)
            assert int(token) == before.now_ms + self._times.lease_ms
            assert token % 1 != 0, "invariant 11: a lease differs from a Go node's"
            assert token not in self._tokens, "invariant 2: no other claim has the same token"
            self._tokens.add(token)
        else:
            assert claim.token == ""
        model.claim(expected, [one.id for one in claim.claimed], claim.token)
        same(expected, after)

    def _check_clock(self, now_ms: int, step: Step | None, before: State) -> None:
        assert now_ms == before.now_ms, "invariant 8: Redis' clock decides"
        if self._last:
            by_ms = (now_ms - self._last[0]) - (self._host.now_ms - self._last[1])
            assert (step is not None) == (abs(by_ms) > STEP_MS), f"by {by_ms} ms, noticed: {step}"
        self._last = now_ms, self._host.now_ms

    # --- the end of a claim

    async def settle(
        self, claim: Claim, orders: Sequence[Order], on_failure: Callable[[Unavailable], None] = lambda _error: None
    ) -> Settlement:
        before = self._state()
        # What fails is tried until the lease ends, and this host's clock is stopped.
        self.reply_lost &= before.running is not None
        expected, wanted_orders = before.copy(), [_order(order) for order in orders]
        wanted = model.settle(expected, claim.token, wanted_orders, self._times.postpone_ms)
        self.carried_out = list(map(Outcome, wanted))
        if self.reply_lost:
            claim = replace(claim, answered_at_s=self._host.monotonic())
            again = model.settle(expected, claim.token, wanted_orders, self._times.postpone_ms)
            wanted = [Outcome.UNKNOWN if outcome == Outcome.LOST else outcome for outcome in again]
        settlement = await super().settle(claim, orders, on_failure)
        after = self._state()
        assert list(settlement.outcomes) == wanted
        same(expected, after)
        _check_settled(before, after, orders, settlement, self.carried_out)
        for order, outcome in zip(wanted_orders, settlement.outcomes, strict=True):
            self._reached.update((order.kind, str(outcome), outcome_of(order.kind, outcome)))
        return settlement

    async def _settle_once(self, claim: Claim, orders: Sequence[Order]) -> Sequence[int | bytes]:
        reply = await super()._settle_once(claim, orders)
        if self.reply_lost:
            self.reply_lost = False
            raise Unavailable("redis", "the reply is lost")
        return reply

    async def reclaim(self) -> int:
        before = self._state()
        count = await super().reclaim()
        after, expected = self._state(), before.copy()
        assert count == model.reclaim(expected, self._times.lease_ms, self._times.far_lease_ms)
        same(expected, after)
        assert after.scheduled == before.scheduled, "invariant 3: an expired claim is due again"
        assert all(
            after.now_ms < until_ms <= after.now_ms + self._times.far_lease_ms for until_ms in after.lease.values()
        )
        return count

    # --- the leader, and run-now

    async def schedule(self, node_id: str, entries: Sequence[Entry], lost_ms: int = 0) -> list[Placement]:
        before = self._state()
        with self._write([entry.id for entry in entries], before, node_id):
            placements = await super().schedule(node_id, entries, lost_ms)
        assert before.leader == node_id, "invariant 9: only the leader schedules"
        after, expected = self._state(), before.copy()
        assert placements == model.schedule(expected, [_entry(entry) for entry in entries], lost_ms)
        same(expected, after)
        self._reached.update(map(placement_of, placements))
        return placements

    async def remove(self, node_id: str, drops: Sequence[Drop]) -> int:
        before = self._state()
        with self._write([drop.id for drop in drops], before, node_id):
            removed = await super().remove(node_id, drops)
        assert before.leader == node_id, "invariant 9: only the leader removes"
        after, expected = self._state(), before.copy()
        stale = {str(drop.id): drop.stale_message for drop in drops}
        assert removed == model.remove(expected, stale, self._times.tombstone_ms)
        same(expected, after)
        self.on_removed([drop.id for drop in drops])
        return removed

    async def relist(self, node_id: str, ids: Sequence[MonitorId]) -> int:
        before = self._state()
        with self._write([], before, node_id):
            count = await super().relist(node_id, ids)
        after = self._state()
        assert after.pending[: len(before.pending)] == before.pending
        relisted = after.pending[len(before.pending) :]
        assert len(relisted) == count
        for id_ in relisted:
            assert id_ in ids
            assert id_ not in before.pending, "invariant 4: a task is listed once"
            assert before.tasks[id_].state == "pending"
        same(replace(before, pending=after.pending), after)
        return count

    async def run_now(self, ids: Sequence[MonitorId]) -> list[bool]:
        before = self._state()
        done = await super().run_now(ids)
        after, expected = self._state(), before.copy()
        assert done == model.run_now(expected, list(ids))
        same(expected, after)
        return done

    @contextmanager
    def _write(self, ids: Sequence[MonitorId], before: State, node_id: str) -> Iterator[None]:
        """Invariant 9: a leader's writes are refused to all other nodes, and then change nothing."""
        self.writing += 1
        try:
            yield
            self.on_write(ids)
        except NotLeading:
            assert before.leader != node_id
            same(before, self._state())
            raise
        finally:
            self.writing -= 1


def same(expected: State, found: State) -> None:
    """Compare what Redis should hold with what it holds, and show only what differs."""
    differences = {
        name: (value, getattr(found, name)) for name, value in asdict(expected).items() if value != getattr(found, name)
    }
    assert not differences, f"expected and found: {differences}"


def is_go(node_id: str | None) -> bool:
    """Return whether this is a Go node's id: it ends in digits, ours end in a letter and more."""
    return node_id is not None and node_id.rpartition("-")[2].isdigit()


def grid_of(cadence: Cadence) -> Grid:
    """Return a cadence as the model's."""
    return Grid(cadence.period_ms, cadence.phase_ms)


def _check_settled(
    before: State, after: State, orders: Sequence[Order], settlement: Settlement, carried_out: Sequence[Outcome]
) -> None:
    """Check what holds whatever the model says."""
    assert settlement.now_ms == before.now_ms, "invariant 8: Redis' clock decides"
    for order, outcome in zip(orders, carried_out, strict=True):
        if outcome is Outcome.FAILED:
            assert after.lease[order.id] == before.lease[order.id], "invariant 7: a failed one keeps its claim"
        elif outcome is Outcome.DROPPED:
            assert order.id not in after.scheduled
        elif outcome is not Outcome.LOST:
            assert order.id in after.due, "invariant 3: a settled claim is due again"
            assert order.id not in after.lease


def _order(order: Order) -> model.Order:
    match order:
        case Enqueue():
            kind: model.Kind = "cached" if order.from_cache else "enqueue"
            return model.Order(kind, order.id, order.message, grid_of(order.cadence))
        case Release():
            return model.Order("release", order.id, delay_ms=order.delay_ms)
        case Drop():
            return model.Order("drop", order.id, order.stale_message)


def _entry(entry: Entry) -> model.Entry:
    return model.Entry(
        entry.id,
        grid_of(entry.cadence),
        at_once=entry.at_once,
        edited=entry.edited or entry.period_changed,
        period_changed=entry.period_changed,
        retry_ms=None if entry.edited or entry.period_changed else entry.retry_ms,
    )
