"""The leader's sweep: the whole database against the whole schedule, both ways, page by page."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from msgspec import Struct

from peekaping_producer.clock import now_utc
from peekaping_producer.errors import Unavailable
from peekaping_producer.leader.sync import Arrival, Sync
from peekaping_producer.leader.term import Term
from peekaping_producer.model.ids import is_monitor_id
from peekaping_producer.model.monitor import MonitorId, Schedulable
from peekaping_producer.node.backoff import Backoff
from peekaping_producer.node.node import Node
from peekaping_producer.node.stop import Bell
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.schedule.orders import PLACEMENTS, Cursor
from peekaping_producer.schedule.store import Schedule

_SUBSCRIBED_WITHIN_S = 1.0
"""A new subscription is followed by a sweep: the first one waits for it so long, or there would be two."""
_NEW_BEFORE_FIRST = timedelta(seconds=60)
"""Created so long before a node's first sweep counts as new."""
_TELL_EVERY_S = 10.0


class Swept(Struct, frozen=True):
    """The result of one sweep."""

    seen: int
    """Active monitors in the database."""
    added: int
    moved: int
    removed: int
    relisted: int
    """Tasks that had fallen out of a long queue."""
    invalid: int
    seconds: float


class Sweeper:
    """Sweeps on taking office and again and again, so that what an event or a flush lost comes back."""

    name = "sweep"

    def __init__(self, node: Node, schedule: Schedule, sync: Sync, wanted: Bell) -> None:
        """Take the schedule; a ring of `wanted` asks for a sweep at once."""
        self._node = node
        self._timing = node.timing
        self._schedule = schedule
        self._sync = sync
        self._wanted = wanted
        self._new_from: datetime | None = None
        self._progress: _Progress | None = None
        """Of the sweep that is under way: a page that failed is read again, and none before it."""
        self._term: Term | None = None
        self._empty_told = False

    async def duty(self, term: Term) -> None:
        """Sweep until the term is over, in a bounded share of the time, whether its reads succeed or fail."""
        self._begin(term)
        await self._wanted.within(_SUBSCRIBED_WITHIN_S)
        while not term.is_over:
            progress = self._under_way()
            try:
                swept = await self.sweep_once(term)
            except Unavailable as error:
                self._node.failed(error, self.name)
                await self._rest(term, progress)
                continue
            self._node.database_outage.recovered(self.name)
            self._tell(swept)
            await self._wanted.within(max(self._timing.sweep_every_s, self._timing.share * swept.seconds))

    def _begin(self, term: Term) -> None:
        if term is not self._term:
            self._term, self._progress = term, None
            self._node.status.invalid_ids = None

    def _under_way(self) -> "_Progress":
        self._progress = self._progress or _Progress(self._node, self._new_from)
        return self._progress

    async def sweep_once(self, term: Term) -> Swept:
        """Sweep, from where the last one failed if it did; raises Unavailable for a page that was not read."""
        self._begin(term)
        progress = self._under_way()
        if not progress.begun:
            progress.step_noted_ms = await self._schedule.step_noted_ms()
            progress.begun = True
        if not progress.all_in:
            await self._into_the_schedule(term, progress)
        await self._out_of_the_schedule(term, progress)
        if progress.step_noted_ms is not None and not term.is_over:
            await self._schedule.end_step(term.node_id, progress.step_noted_ms)
        self._progress, self._new_from = None, progress.began
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

    async def _into_the_schedule(self, term: Term, progress: "_Progress") -> None:
        def arrival(monitor: Schedulable) -> Arrival:
            """Make a new one due at once: nobody waits a period to see a new monitor work."""
            return Arrival(at_once=bool(monitor.created_at and monitor.created_at >= progress.new_from))

        status = self._node.status
        while not term.is_over:
            with progress.timed():
                page, counts = await self._sync.schedule_page(term, progress.after, arrival)
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

    async def _out_of_the_schedule(self, term: Term, progress: "_Progress") -> None:
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

        At least as long as it took to fail, so that no server is busy with nothing else. Then as long as after a
        success, though no longer than between two sweeps, unless somebody finds the database available before that.
        """
        backoff, cost_s = progress.backoff, progress.last_s
        await term.ended.within(min(cost_s, self._timing.sweep_every_s))
        longest_s = min(self._timing.share * cost_s, self._timing.sweep_every_s)
        await self._node.database_outage.recovery_within(max(backoff.next_delay_s(), longest_s - cost_s))

    def _tell(self, swept: Swept) -> None:
        self._node.status.swept = swept
        figures = {field: getattr(swept, field) for field in swept.__struct_fields__}
        if swept.added or swept.moved or swept.removed or swept.relisted:
            self._node.log.info(LogEvent.SWEEP_FINISHED, **figures)
        else:
            self._node.log.debug(LogEvent.SWEEP_CHANGED_NOTHING, **figures)
        empty = swept.seen == 0
        if empty and not self._empty_told:
            self._node.log.warning(LogEvent.NO_ACTIVE_MONITOR)
        self._empty_told = empty


class _Progress:
    """How far a sweep is, and what it has done so far, told now and then when it takes long."""

    def __init__(self, node: Node, new_from: datetime | None) -> None:
        self.began = now_utc()
        self.began_s = time.monotonic()
        self.new_from = new_from or self.began - _NEW_BEFORE_FIRST
        """A monitor created since then counts as new."""
        self.begun = False
        self.step_noted_ms: int | None = None
        """The step of Redis' clock that was noted when it began."""
        self.after: MonitorId | None = None
        self.all_in = False
        """Every active monitor is in the schedule; what is not active goes out of it now."""
        self.cursor: Cursor | None = None
        self.invalid_ids: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.seconds = 0.0
        """What its pages took, the failed ones too."""
        self.last_s = 0.0
        """And the last of them."""
        self.backoff = Backoff(node.timing.retry_first_s, node.timing.retry_cap_s)
        self._node = node
        self._tell_again_s = time.monotonic() + _TELL_EVERY_S

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time of a page."""
        began_s = time.monotonic()
        try:
            yield
            self.backoff.reset()
        finally:
            self.last_s = time.monotonic() - began_s
            self.seconds += self.last_s

    def add(self, **counts: int) -> None:
        self.counts.update(counts)
        if time.monotonic() >= self._tell_again_s:
            self._tell_again_s += _TELL_EVERY_S
            self._node.log.info(LogEvent.SWEEP_IN_PROGRESS, **self.counts)
