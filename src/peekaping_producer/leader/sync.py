"""What the leader does with the rows it has read: active monitors go into the schedule, all others out of it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime

from msgspec import Struct

from peekaping_producer.catalog.catalog import Catalog
from peekaping_producer.catalog.last_known import LastKnown
from peekaping_producer.catalog.reading import Page, Place
from peekaping_producer.leader.term import Term
from peekaping_producer.model.cadence import Spacing, cadence
from peekaping_producer.model.monitor import MonitorId, Retry, Schedulable
from peekaping_producer.node.node import Node
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.notices import Notices
from peekaping_producer.schedule.orders import Entry, drop
from peekaping_producer.schedule.store import Schedule

_MOST_ACTED_ON = 100_000
"""If more monitors than this are acted on during one reading, everything it returned is read again."""


class Arrival(Struct, frozen=True):
    """Why a monitor was read, as far as the schedule is concerned."""

    at_once: bool = False
    """Due at once if it is in neither set: it was created or activated."""
    edited: bool = False
    """A person changed its row."""
    pending: bool | None = None
    """Whether it is pending now, if an event said so: its row may be older."""


ArrivalOf = Callable[[Schedulable], Arrival]
_NEW, _KNOWN = Arrival(at_once=True), Arrival()


def new_since(since: datetime) -> ArrivalOf:
    """Make a monitor created since then due at once: nobody should wait a period for its first check."""

    def arrival(monitor: Schedulable) -> Arrival:
        return _NEW if monitor.created_at and monitor.created_at >= since else _KNOWN

    return arrival


class Synced(Struct, frozen=True):
    """What became of some monitors."""

    active: dict[MonitorId, Schedulable]
    counts: Counter[str]
    """By placement, and `removed`."""


class _ActedOn:
    """Monitors that another reading has acted on since this one began: this one may be older (invariant 10)."""

    def __init__(self) -> None:
        self._ids: set[MonitorId] = set()
        self._too_many = False

    def among(self, ids: Iterable[MonitorId]) -> set[MonitorId]:
        """Return which of these monitors it may be."""
        return set(ids) if self._too_many else self._ids.intersection(ids)

    def add(self, ids: Sequence[MonitorId]) -> None:
        if len(self._ids) + len(ids) > _MOST_ACTED_ON:
            self._ids, self._too_many = set(), True
        else:
            self._ids.update(ids)


class _PageReading(Struct, frozen=True):
    """A page that is being read."""

    after: MonitorId | None
    task: asyncio.Future[Page]
    acted_on: _ActedOn


class Sync:
    """Reads monitors and acts on what it read, page by page. The later read wins (invariant 10).

    Reads overlap, so that an event waits for no page. A monitor that another read has acted on while this one was
    under way is left alone by this one, and read again.

    Every method raises Unavailable if something was not read or written, and NotLeading if the term is over.
    """

    def __init__(self, node: Node, schedule: Schedule, catalog: Catalog, cache: LastKnown) -> None:
        """Take the stores, and the cache that this node serves from while the database is unavailable."""
        self._node = node
        self._schedule = schedule
        self._catalog = catalog
        self._cache = cache
        self._one_at_a_time = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._readings: set[_ActedOn] = set()
        self._reads_ahead = False
        self._ahead: _PageReading | None = None
        self._invalid = Notices(node.log, LogEvent.MONITORS_INVALID)
        self.newest_change: datetime | None = None
        """The newest `updated_at` that was seen of any monitor."""

    @asynccontextmanager
    async def reading_ahead(self) -> AsyncIterator[None]:
        """For the time of the block, `schedule_page` reads the next page while it acts on one."""
        self._reads_ahead = True
        try:
            yield
        finally:
            self._reads_ahead = False
            await self._drop_ahead()

    async def schedule_page(
        self, term: Term, after: MonitorId | None, arrival: ArrivalOf, lost_at_s: float | None = None
    ) -> tuple[Page, Counter[str]]:
        """Schedule the active monitors of the page after `after`; return the page, and how many by placement.

        If the schedule was lost at `lost_at_s` (monotonic clock), no slot since then was checked.
        """
        reading = await self._page_after(after)
        try:
            page = await reading.task
            if self._reads_ahead and page.next_after is not None and not term.is_over:
                self._ahead = self._begin_page(page.next_after)
            counts, overtaken = await self._placed(term, page, reading.acted_on, arrival, lost_at_s)
        finally:
            await self._end(reading)
        if overtaken:
            counts.update((await self.reconcile(term, overtaken, arrival)).counts)
        return page, counts

    async def _page_after(self, after: MonitorId | None) -> "_PageReading":
        """Return the reading of a page, which may have begun already."""
        ahead = self._ahead
        if ahead and ahead.after == after:
            self._ahead = None
            return ahead
        await self._drop_ahead()
        return self._begin_page(after)

    def _begin_page(self, after: MonitorId | None) -> "_PageReading":
        acted_on = _ActedOn()
        self._readings.add(acted_on)
        read = self._catalog.active(after, self._node.timing.sweep_page)
        return _PageReading(after, asyncio.ensure_future(read), acted_on)

    async def _drop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead:
            await self._end(ahead)

    async def _end(self, reading: "_PageReading") -> None:
        self._readings.discard(reading.acted_on)
        if not reading.task.done():
            reading.task.cancel()
        await asyncio.wait([reading.task])
        if not reading.task.cancelled():
            reading.task.exception()  # raised by the one who waited for it, or not needed

    async def reconcile(self, term: Term, ids: Sequence[MonitorId], arrival: ArrivalOf) -> Synced:
        """Schedule those of these monitors that are active, and remove all others. Waits for no read of a table."""
        active: dict[MonitorId, Schedulable] = {}
        counts: Counter[str] = Counter(removed=0)
        async with self._one_at_a_time:
            while ids:
                with self._reading() as acted_on:
                    page = await self._catalog.active_of(ids, urgent=True)
                    placed, overtaken = await self._placed(term, page, acted_on, arrival)
                    removed, also_overtaken = await self._removed(term, page, ids, acted_on)
                for id_ in ids:
                    active.pop(id_, None)
                active.update((monitor.id, monitor) for monitor in page.monitors)
                counts.update(placed)
                counts["removed"] += removed
                ids = [*overtaken, *also_overtaken]
        return Synced(active, counts)

    async def remove_inactive(self, term: Term, ids: Sequence[MonitorId]) -> int:
        """Remove those of these monitors that are not active from the schedule; return how many."""
        with self._reading() as acted_on:
            page = await self._catalog.active_of(ids)
            # Another reading has just acted on those that were overtaken; later changes are left to the next sweep.
            removed, _ = await self._removed(term, page, ids, acted_on)
        return removed

    async def remove_unverified(self, term: Term, ids: Sequence[MonitorId]) -> int:
        """Remove monitors on the strength of events alone, even if reads hang; an earlier read cannot restore them."""
        async with self._writing:
            return await self._remove(term, ids)

    async def reconcile_changed(
        self, term: Term, since: datetime, after: Place | None, arrival: ArrivalOf
    ) -> Place | None:
        """Act on a page of the monitors that were changed at or after `since`; return where the next page begins."""
        changes = await self._catalog.changed(since, after, self._node.timing.sweep_page)
        if changes.ids:
            await self._act_on_changed(term, changes.ids, arrival)
        self._note(changes.newest)
        return changes.next_after

    async def _act_on_changed(self, term: Term, ids: Sequence[MonitorId], arrival: ArrivalOf) -> None:
        with self._reading() as acted_on:
            page = await self._catalog.active_of(ids)
            _, overtaken = await self._placed(term, page, acted_on, arrival)
            _, also_overtaken = await self._removed(term, page, ids, acted_on)
        await self.reconcile(term, [*overtaken, *also_overtaken], arrival)

    @contextmanager
    def _reading(self) -> Iterator[_ActedOn]:
        """Collect what other readings act on during this one, up to the moment when it acts itself."""
        acted_on = _ActedOn()
        self._readings.add(acted_on)
        try:
            yield acted_on
        finally:
            self._readings.discard(acted_on)

    async def _placed(
        self, term: Term, page: Page, acted_on: _ActedOn, arrival: ArrivalOf, lost_at_s: float | None = None
    ) -> tuple[Counter[str], list[MonitorId]]:
        """Schedule the monitors of a page; return the placements, and the monitors that were overtaken."""
        self._invalid.report(page.invalid)
        self._node.status.note_invalid(page.invalid)
        self._note(max((monitor.updated_at for monitor in page.monitors if monitor.updated_at), default=None))
        async with self._writing:
            spacing = self._node.spacing.now
            overtaken = acted_on.among([one.id for one in page.monitors])
            entries = [
                self._entry(one, arrival(one), spacing, page.retries.get(one.id))
                for one in page.monitors
                if one.id not in overtaken
            ]
            self._note_acted_on([entry.id for entry in entries], acted_on)
            placed: Counter[str] = Counter()
            if entries:
                lost_ms = 0 if lost_at_s is None else int((time.monotonic() - lost_at_s) * 1000)
                placed.update(await self._schedule.schedule(term.node_id, entries, lost_ms))
        return placed, [*overtaken]

    async def _removed(
        self, term: Term, page: Page, ids: Sequence[MonitorId], acted_on: _ActedOn
    ) -> tuple[int, list[MonitorId]]:
        """Remove those of `ids` that a page lacks; return how many, and the monitors that were overtaken."""
        active = {monitor.id for monitor in page.monitors}
        gone = [id_ for id_ in ids if id_ not in active]
        async with self._writing:
            overtaken = acted_on.among(gone)
            removed = await self._remove(term, [id_ for id_ in gone if id_ not in overtaken], acted_on)
        return removed, [*overtaken]

    def _note_acted_on(self, ids: Sequence[MonitorId], own: _ActedOn | None) -> None:
        for reading in self._readings:
            if reading is not own:
                reading.add(ids)

    def _note(self, change: datetime | None) -> None:
        if change and (self.newest_change is None or change > self.newest_change):
            self.newest_change = change

    def _entry(self, monitor: Schedulable, arrival: Arrival, spacing: Spacing, retry: Retry | None) -> Entry:
        grid, retry_ms = cadence(monitor.id, monitor.interval, spacing), None
        if retry:
            if retry.pending if arrival.pending is None else arrival.pending:
                grid = grid.retrying(retry.seconds)
            else:
                retry_ms = retry.seconds * 1000
        known_s = self._cache.interval_s(monitor.id) if arrival.edited else None
        return Entry(
            monitor.id,
            grid,
            at_once=arrival.at_once,
            edited=arrival.edited,
            period_changed=known_s is not None and known_s != monitor.interval,
            retry_ms=retry_ms,
        )

    async def _remove(self, term: Term, ids: Sequence[MonitorId], own: _ActedOn | None = None) -> int:
        """Remove monitors; the caller holds the lock for writing."""
        if not ids:
            return 0
        self._note_acted_on(ids, own)
        self._cache.forget(ids, time.monotonic())
        return await self._schedule.remove(term.node_id, [drop(id_) for id_ in ids])
