"""The loop that turns due monitors into tasks, batch by batch, on every node: claim → read → plan → settle."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from zoneinfo import ZoneInfo

from peekaping_producer.catalog.reading import Reading
from peekaping_producer.dispatch.cache_claims import CacheClaims
from peekaping_producer.dispatch.in_flight import InFlight
from peekaping_producer.dispatch.missed import MissedChecks
from peekaping_producer.dispatch.plan import Plan, plan
from peekaping_producer.dispatch.source import Source
from peekaping_producer.errors import Unavailable
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.node.backoff import Backoff
from peekaping_producer.node.node import Node
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.faults import described
from peekaping_producer.observe.measures import BatchMeasures, Stage
from peekaping_producer.observe.notices import Notices
from peekaping_producer.observe.outcomes import HEALED, PLACED, Outcome
from peekaping_producer.observe.paced import Paced
from peekaping_producer.schedule.orders import Claim, Order, Settlement
from peekaping_producer.schedule.redis_clock import Step
from peekaping_producer.schedule.store import Schedule


class Dispatcher:
    """Loops that take turns to claim: one waits for the next due time, the others wait for their turn.

    Under load several batches overlap, one reading the database while another waits for Redis; idle loops cost
    nothing. A batch is claimed only if a database connection is free for it, so no lease expires while it waits for
    one. Every claim is settled or expires (invariant 3).
    """

    def __init__(
        self,
        node: Node,
        schedule: Schedule,
        source: Source,
        missed: MissedChecks,
        *,
        connections: int,
        server_zone: ZoneInfo,
    ) -> None:
        """Take the stores; the catalog reads at most `connections` batches at the same time."""
        self._node = node
        self._timing = node.timing
        self._measures = node.measures
        self._schedule = schedule
        self._source = source
        self._missed = missed
        self._cache_claims = CacheClaims(node, schedule, source.cache)
        self._server_zone = server_zone
        self._turn = asyncio.Lock()
        self._in_flight = InFlight(connections)
        self._backoff = Backoff(node.timing.retry_first_s, node.timing.redis_retry_cap_s)
        self._settles_failed_until_s = 0.0
        self._last_claim_s = self._next_claim_s = self._earliest_claim_s = 0.0
        self._unnoted_step: Step | None = None
        self._invalid = Notices(node.log, LogEvent.MONITORS_INVALID)
        self._settled = Paced(node.log.debug, LogEvent.BATCHES_SETTLED, node.timing.often_logged_every_s)
        self._unsettled = Paced(node.log.error, LogEvent.MONITORS_NOT_SETTLED, node.timing.often_logged_every_s)
        self._broken_maintenances = Notices(node.log, LogEvent.MAINTENANCES_INVALID)

    async def batch_loop(self) -> None:
        """Handle batches until it is time to stop. A batch that is claimed by then is still settled."""
        while not self._node.stop:
            async with self._in_flight.room():
                async with self._turn:
                    batch = await self._next_batch()
                if batch is None:
                    return
                claim, measures = batch
                started_s = time.monotonic()
                reading = await self._read(claim, measures)
                full = len(claim.claimed) == self._timing.batch and not self._source.serving_from_cache
                self._in_flight.batch_read(full=full)
            await asyncio.sleep(0)  # the request for the next claim goes out before this batch is planned
            planned = self._plan(claim, reading, measures)
            await self._settle(claim, planned.orders, started_s, measures)
            if planned.go_slots:
                await self._note_go_node()

    async def _next_batch(self) -> tuple[Claim, BatchMeasures] | None:
        """Wait until something is due and claim it; return None when it is time to stop."""
        while not self._node.stop:
            wait_s = self._next_claim_s - time.monotonic()
            if wait_s > 0:
                if await self._node.due_sooner.within(wait_s):
                    self._next_claim_s = self._earliest_claim_s
                continue
            try:
                await self._note_step()
                began_s = time.monotonic()
                claim = await self._claim()
            except Unavailable as error:
                self._node.liveness.turned()
                self._node.redis_failed(error, self._node.claims)
                self._next_claim_s = self._earliest_claim_s = time.monotonic() + self._backoff.next_delay_s()
                continue
            self._node.liveness.turned()
            self._note_claims_work()
            self._backoff.reset()
            self._node.spacing.update(go_seen=claim.go_seen, at_s=claim.answered_at_s)
            self._node.pause.update(claim.pause, claim.now_ms)
            self._plan_next_claim(claim)
            if claim.step:
                self._clock_stepped(claim.step, claim)
            self._measures.claimed_at_s = claim.answered_at_s
            if claim.claimed:
                return claim, self._measures.batch(began_s, claim.answered_at_s, len(claim.claimed))
        return None

    def _note_claims_work(self) -> None:
        """End an outage, unless settles fail: Redis' memory may suffice for claims and not for settles."""
        self._node.claims.recovered()
        if time.monotonic() >= self._settles_failed_until_s:
            self._node.settles.recovered()

    def _note_settle_failed(self, error: Unavailable) -> None:
        """Note a failure that counts until a settle works, or until none was tried for twice the time of a lease."""
        self._settles_failed_until_s = time.monotonic() + 2 * self._timing.lease_ms / 1000
        self._node.redis_failed(error, self._node.settles)

    async def _claim(self) -> Claim:
        """Claim what is due; while the database is unavailable, only what the cache can serve."""
        since_s = self._source.unavailable_since_s
        if since_s is None:
            return await self._schedule.claim(self._timing.batch)
        return await self._cache_claims.claim(since_s)

    def _plan_next_claim(self, claim: Claim) -> None:
        """Claim again at once after a full batch, otherwise when the next monitor is due, or a pause ends."""
        timing = self._timing
        since_last_s, self._last_claim_s = claim.answered_at_s - self._last_claim_s, claim.answered_at_s
        if len(claim.claimed) == timing.batch:
            self._next_claim_s = self._earliest_claim_s = claim.answered_at_s
            return
        wait_s = timing.claim_wait_s
        next_ms = claim.pause.until_ms if claim.pause else claim.next_due_ms
        if next_ms is not None:
            wait_s = min(wait_s, (next_ms - claim.now_ms) / 1000)
        self._earliest_claim_s = claim.answered_at_s + timing.claim_spacing_s(len(claim.claimed), since_last_s)
        self._next_claim_s = max(self._earliest_claim_s, claim.answered_at_s + wait_s)

    def _clock_stepped(self, step: Step, claim: Claim) -> None:
        """Have the step noted before the next claim, which would otherwise take all that it made overdue."""
        self._unnoted_step = step
        self._next_claim_s = claim.answered_at_s
        self._node.log.warning(LogEvent.REDIS_CLOCK_STEPPED, by_s=round(step.by_ms / 1000, 1))
        self._node.sweep_wanted.ring()
        self._node.status.changed.ring()

    async def _note_step(self) -> None:
        if self._unnoted_step:
            await self._schedule.note_step(self._unnoted_step)
            self._unnoted_step = None

    def _plan(self, claim: Claim, reading: Reading, measures: BatchMeasures) -> Plan:
        """Give each monitor of the batch an order."""
        began_s = time.monotonic()
        orders_for = partial(
            plan, claim, reading, self._server_zone, release_ms=self._timing.release_ms, headers=measures.headers
        )
        planned = orders_for(self._node.spacing.now)
        if planned.go_slots and not claim.go_seen:
            # Noticed only now: the next slots of this batch must already be aligned with the Go node's.
            self._node.spacing.notice(claim.answered_at_s + self._timing.lease_ms / 1000)
            planned = orders_for(self._node.spacing.now)
        measures.stage(Stage.PLAN, began_s, time.monotonic())
        self._node.tally.count(reading.deferred.values())
        for id_, error in planned.faults.items():
            self._node.faults.note(LogEvent.MONITOR_FAILED, error, monitor=id_)
        self._invalid.report(planned.invalid)
        self._node.status.note_invalid(planned.invalid)
        self._broken_maintenances.report(planned.broken_maintenances)
        self._node.tally.add(Outcome.INVALID, len(planned.invalid))
        self._node.tally.add(Outcome.GONE, planned.gone)
        return planned

    async def _read(self, claim: Claim, measures: BatchMeasures) -> Reading:
        began_s = time.monotonic()
        ids = [claimed.id for claimed in claim.claimed]
        reading = await self._read_ids(ids, claim.answered_at_s + self._timing.read_deadline_s)
        measures.stage(Stage.READ, began_s, time.monotonic())
        return reading

    async def _read_ids(self, ids: Sequence[MonitorId], until_s: float) -> Reading:
        """Read the batch; after an unexpected exception, read its monitors one at a time (invariant 7)."""
        try:
            return await self._source.read(ids, until_s)
        except Exception as error:  # noqa: BLE001 - whatever it is, the same batch must not fail again and again
            self._node.faults.note(LogEvent.BATCH_FAILED, error)
        whole = Reading({}, {}, {}, from_cache=True)
        for id_ in ids:
            try:
                reading = await self._source.read([id_], until_s)
            except Exception as error:  # noqa: BLE001 - likewise
                self._node.faults.note(LogEvent.MONITOR_FAILED, error, monitor=id_)
                whole.invalid[id_] = described(error)
            else:
                whole.found.update(reading.found)
                whole.invalid.update(reading.invalid)
                whole.deferred.update(reading.deferred)
        return whole

    async def _note_go_node(self) -> None:
        """Let all nodes know of a Go producer: a due time at a multiple of the period is not ours (invariant 11)."""
        try:
            await self._schedule.note_go_node()
        except Unavailable as error:
            self._node.redis_failed(error)

    async def _settle(self, claim: Claim, orders: list[Order], started_s: float, measures: BatchMeasures) -> None:
        began_s = time.monotonic()
        try:
            settlement = await self._schedule.settle(claim, orders, self._note_settle_failed)
        except Unavailable:  # noted for each try
            self._node.tally.add(Outcome.UNSETTLED, len(orders))
            measures.end(())
            return
        measures.stage(Stage.SETTLE, began_s, time.monotonic())
        measures.end(settlement.outcomes)
        if not settlement.failures:
            self._node.settles.recovered()
        lateness_ms = claim.lateness_ms(settlement.now_ms)
        self._node.tally.count(settlement.outcomes)
        if not HEALED.isdisjoint(settlement.outcomes):
            ids = (claimed.id for claimed in claim.claimed)
            self._node.history.note_healed(zip(ids, settlement.outcomes, strict=True))
        self._node.tally.late(_of_placed(self._node.pause.lateness_ms(lateness_ms), settlement))
        for outcome, times in self._missed.in_batch(claim, orders, settlement, lateness_ms).items():
            self._node.tally.add(outcome, times)
        if settlement.failures:
            id_, reason = next(iter(settlement.failures.items()))
            self._unsettled.add({"count": len(settlement.failures)}, example=id_, reason=reason)
        placed = sum(outcome in PLACED for outcome in settlement.outcomes)
        took_ms = round((time.monotonic() - started_s) * 1000)
        self._settled.add({"batches": 1, "checks": len(orders), "placed": placed, "ms": took_ms})


def _of_placed(lateness_ms: Sequence[float], settlement: Settlement) -> list[float]:
    return [late for late, outcome in zip(lateness_ms, settlement.outcomes, strict=True) if outcome in PLACED]
