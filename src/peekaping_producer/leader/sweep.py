"""The leader's sweep: compares the whole database with the whole schedule, page by page, and corrects the schedule."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from msgspec import Struct

from peekaping_producer.clock import now_utc
from peekaping_producer.errors import Unavailable
from peekaping_producer.leader.duty import Duty
from peekaping_producer.leader.sync import Sync, new_since
from peekaping_producer.leader.term import Term
from peekaping_producer.model.ids import is_monitor_id
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.node.backoff import Backoff
from peekaping_producer.node.node import Node
from peekaping_producer.node.stop import Bell
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.schedule.orders import PLACEMENTS, Cursor
from peekaping_producer.schedule.store import Schedule

_SUBSCRIBED_WITHIN_S = 1.0
"""The first sweep waits this long for the subscription: a new one is followed by a sweep, so there would be two."""
_NEW_BEFORE_FIRST = timedelta(seconds=60)
"""A monitor created at most this long before a node's first sweep counts as new."""
_REPORT_EVERY_S = 10.0


class Swept(Struct, frozen=True):
    """The result of one sweep."""

    seen: int
    """Active monitors in the database."""
    added: int
    moved: int
    removed: int
    relisted: int
    """Tasks that were missing from a long queue, and were put back."""
    invalid: int
    seconds: float


class Sweeper:
    """Sweeps at the start of a term and regularly after that, so that what an event or a flush lost is restored."""

    def __init__(self, node: Node, schedule: Schedule, sync: Sync, wanted: Bell) -> None:
        """Take the schedule, and what reads and acts; a ring of `wanted` asks for a sweep at once."""
        self._node = node
        self._timing = node.timing
        self._schedule = schedule
        self._sync = sync
        self._wanted = wanted
        self._database = node.database_outage.user()
        self._new_from: datetime | None = None
        self._progress: _Progress | None = None
        """The sweep under way: after a failure it goes on with the page that failed."""
        self._term: Term | None = None
        self._lost_at_s: float | None = None
        """When the schedule was lost, by the monotonic clock, as Redis' may be stepped; None once it is rebuilt."""
        self._empty_logged = False

    def duty(self) -> Duty:
        """Return the duty to sweep."""
        return Duty("sweep", self.run, self._database)

    async def run(self, term: Term) -> None:
        """Sweep until the term is over, in a bounded share of the time, whether its reads succeed or fail."""
        self._begin(term)
        await self._wanted.within(_SUBSCRIBED_WITHIN_S)
        outage = self._node.database_outage
        while not term.is_over:
            progress, recoveries = self._under_way(), outage.recoveries
            try:
                swept = await self.sweep_once(term)
            except Unavailable as error:
                self._node.failed(error, self._database)
                if error.system == "database" and outage.recoveries == recoveries:
                    await self._rest(term, progress)
                else:  # the time was Redis', or that of an outage which is over
                    await term.ended.within(progress.backoff.next_delay_s())
                continue
            self._database.recovered()
            self._report(swept)
            # Pages that hung until an outage was over have cost the database nothing.
            cost_s = min(swept.seconds, outage.available_s_since(progress.began_s))
            await self._wanted.within(max(self._timing.sweep_every_s, self._timing.share * cost_s))

    def _begin(self, term: Term) -> None:
        if term is not self._term:
            self._term, self._progress = term, None
            self._lost_at_s = time.monotonic() if term.lost else None
            self._node.status.invalid_ids = None

    def _under_way(self) -> "_Progress":
        self._progress = self._progress or _Progress(self._node, self._new_from)
        return self._progress

    async def sweep_once(self, term: Term) -> Swept:
        """Sweep, from where the last sweep failed if it did. Raises Unavailable for a page that was not read."""
        self._begin(term)
        progress = self._under_way()
        if not progress.begun:
            progress.step_noted_ms = await self._schedule.step_noted_ms()
            progress.begun = True
        if not progress.all_in:
            async with self._sync.reading_ahead():
                await self._fill(term, progress)
        await self._clean(term, progress)
        if progress.step_noted_ms is not None and not term.is_over:
            await self._schedule.end_step(term.node_id, progress.step_noted_ms)
        self._progress, self._new_from, self._lost_at_s = None, progress.began, None
        counts = progress.counts
        return Swept(
            seen=counts["seen"],
            added=counts["added"],
            moved=counts["moved"],
            removed=counts["removed"],
            relisted=counts["relisted"],
            invalid=counts["invalid"],
            seconds=round(progress.seconds, 3),
        )

    async def _fill(self, term: Term, progress: "_Progress") -> None:
        """Bring every active monitor into the schedule."""
        arrival, status = new_since(progress.new_from), self._node.status
        while not term.is_over:
            with progress.timed():
                page, counts = await self._sync.schedule_page(term, progress.after, arrival, self._lost_at_s)
            progress.add(seen=len(page.monitors), invalid=len(page.invalid), **counts)
            self._node.loss.swept(progress.began_s, progress.counts["added"])
            progress.invalid_ids |= {id_ for id_ in page.invalid if not is_monitor_id(id_)}
            if status.invalid_ids is not None:
                status.invalid_ids |= progress.invalid_ids
            progress.after = page.next_after
            if page.next_after is None:
                status.invalid_ids = progress.invalid_ids
                progress.all_in = True
                self._node.loss.sweep_ended(progress.began_s, progress.counts["seen"])
                term.expect(sum(progress.counts[placement] for placement in PLACEMENTS))
                return

    async def _clean(self, term: Term, progress: "_Progress") -> None:
        """Remove what is not active from the schedule."""
        while not term.is_over:
            with progress.timed():
                ids, cursor = await self._schedule.members(progress.cursor, self._timing.sweep_page)
                removed = await self._sync.remove_inactive(term, ids) if ids else 0
                relisted = await self._schedule.relist(term.node_id, ids) if ids else 0
            progress.add(removed=removed, relisted=relisted)
            progress.cursor = cursor
            if cursor is None:
                return

    async def _rest(self, term: Term, progress: "_Progress") -> None:
        """Wait before a page that failed is read again.

        It waits at least as long as the failure took, so that no server is kept busy by this alone; then as long as
        after a success, but at most as long as between two sweeps, and only until the database answers somebody.
        """
        backoff, cost_s = progress.backoff, progress.last_s
        await term.ended.within(min(cost_s, self._timing.sweep_every_s))
        longest_s = min(self._timing.share * cost_s, self._timing.sweep_every_s)
        await self._node.database_outage.recovery_within(max(backoff.next_delay_s(), longest_s - cost_s))

    def _report(self, swept: Swept) -> None:
        self._node.status.swept = swept
        measures = self._node.measures
        measures.sweep_s = swept.seconds
        for kind in measures.sweep_changes:
            measures.sweep_changes[kind] += getattr(swept, kind)
        figures = {field: getattr(swept, field) for field in swept.__struct_fields__}
        if swept.added or swept.moved or swept.removed or swept.relisted:
            self._node.log.info(LogEvent.SWEEP_FINISHED, **figures)
        else:
            self._node.log.debug(LogEvent.SWEEP_CHANGED_NOTHING, **figures)
        empty = swept.seen == 0
        if empty and not self._empty_logged:
            self._node.log.warning(LogEvent.NO_ACTIVE_MONITOR)
        self._empty_logged = empty


class _Progress:
    """How far a sweep has come and what it has done, logged regularly if it takes long."""

    def __init__(self, node: Node, new_from: datetime | None) -> None:
        self.began = now_utc()
        self.began_s = time.monotonic()
        self.new_from = new_from or self.began - _NEW_BEFORE_FIRST
        """A monitor created since then counts as new."""
        self.begun = False
        self.step_noted_ms: int | None = None
        """The step of Redis' clock that was already noted when it began."""
        self.after: MonitorId | None = None
        self.all_in = False
        """Every active monitor is in the schedule; next, what is not active is removed."""
        self.cursor: Cursor | None = None
        self.invalid_ids: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.seconds = 0.0
        """The time that its pages took, failed ones included."""
        self.last_s = 0.0
        """The time that the last page took."""
        self.backoff = Backoff(node.timing.retry_first_s, node.timing.retry_cap_s)
        self._node = node
        self._report_again_s = time.monotonic() + _REPORT_EVERY_S

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Measure the time of a page."""
        began_s = time.monotonic()
        try:
            yield
            self.backoff.reset()
        finally:
            self.last_s = time.monotonic() - began_s
            self.seconds += self.last_s

    def add(self, **counts: int) -> None:
        """Add to the counts."""
        self.counts.update(counts)
        if time.monotonic() >= self._report_again_s:
            self._report_again_s += _REPORT_EVERY_S
            self._node.log.info(LogEvent.SWEEP_IN_PROGRESS, **self.counts)
