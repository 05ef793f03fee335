"""What the leader does with what it has read: active monitors into the schedule, others out of it."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec import Struct

from peekaping_producer.cadence import cadence
from peekaping_producer.catalog.catalog import Catalog
from peekaping_producer.catalog.last_known import LastKnown
from peekaping_producer.catalog.reading import Page, is_monitor_id
from peekaping_producer.check import stale_task
from peekaping_producer.leader.term import Term
from peekaping_producer.monitor import MonitorId, Schedulable
from peekaping_producer.node import Node
from peekaping_producer.observe.notices import Notices
from peekaping_producer.schedule.store import Drop, Entry, Schedule


class Arrival(Struct, frozen=True):
    """How a monitor comes to be looked at."""

    at_once: bool = False
    """Due at once where it is in neither set: it was created, or activated again."""
    edited: bool = False
    """A person changed its row."""


ArrivalOf = Callable[[Schedulable], Arrival]


class Synced(Struct, frozen=True):
    """What became of some monitors."""

    active: dict[MonitorId, Schedulable]
    counts: Counter[str]
    """By placement, and `removed`."""


class Sync:
    """Reads monitors and acts on what it read, one page at a time: the later reading wins.

    Its methods raise Unavailable when something was not read or written, and NotLeading when the term is over.
    """

    def __init__(self, node: Node, schedule: Schedule, catalog: Catalog, copy: LastKnown) -> None:
        """Take the stores, and the copy by which this node checks while the database is away."""
        self._node = node
        self._schedule = schedule
        self._catalog = catalog
        self._copy = copy
        self._one_at_a_time = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._aside = Notices(node.log, "monitors not scheduled")
        self.newest_change: datetime | None = None
        """The newest `updated_at` that was seen of any monitor."""

    async def page(self, term: Term, after: MonitorId | None, arrival: ArrivalOf) -> tuple[Page, Counter[str]]:
        """Schedule the active monitors of the page behind `after`."""
        async with self._one_at_a_time:
            began_s = time.monotonic()
            page = await self._catalog.active(after, self._node.timing.sweep_page)
            return page, await self._placed(term, page, began_s, arrival)

    async def those(self, term: Term, ids: Sequence[MonitorId], arrival: ArrivalOf) -> Synced:
        """Schedule those of these monitors that are active, and remove all others."""
        async with self._one_at_a_time:
            began_s = time.monotonic()
            page = await self._catalog.active_of(ids)
            counts = await self._placed(term, page, began_s, arrival)
            active = {monitor.id: monitor for monitor in page.monitors}
            counts["removed"] = await self._remove(term, [id_ for id_ in ids if id_ not in active])
            return Synced(active, counts)

    async def inactive(self, term: Term, ids: Sequence[MonitorId]) -> int:
        """Remove those of these members of the schedule that are not active; return how many."""
        async with self._one_at_a_time:
            page = await self._catalog.active_of(ids)
            active = {monitor.id for monitor in page.monitors}
            return await self._remove(term, [id_ for id_ in ids if id_ not in active])

    async def unread(self, term: Term, ids: Sequence[MonitorId]) -> int:
        """Remove monitors whose events say that they are gone, beside readings that hang; those bring none back."""
        return await self._remove(term, ids)

    async def changed(
        self, term: Term, since: datetime, after: MonitorId | None, arrival: ArrivalOf
    ) -> MonitorId | None:
        """Act on a page of the monitors that were changed at or after `since`; return where the next page begins."""
        page = await self._catalog.changed(since, after, self._node.timing.sweep_page)
        if page.ids:
            await self.those(term, page.ids, arrival)
        self._note(page.newest)
        return page.next_after

    async def _placed(self, term: Term, page: Page, began_s: float, arrival: ArrivalOf) -> Counter[str]:
        self._aside.tell(page.aside)
        self._node.presence.skipped(page.aside)
        self._note(max((monitor.updated_at for monitor in page.monitors if monitor.updated_at), default=None))
        async with self._writing:
            entries = [
                self._entry(monitor, arrival(monitor))
                for monitor in page.monitors
                if not self._copy.forgotten_since(monitor.id, began_s)
            ]
            return Counter(await self._schedule.schedule(term.node_id, entries)) if entries else Counter()

    def _note(self, change: datetime | None) -> None:
        if change and (self.newest_change is None or change > self.newest_change):
            self.newest_change = change

    def _entry(self, monitor: Schedulable, arrival: Arrival) -> Entry:
        own = cadence(monitor.id, monitor.interval, self._node.spacing.now)
        known_s = self._copy.interval_s(monitor.id) if arrival.edited else None
        return Entry(
            monitor.id,
            own,
            at_once=arrival.at_once,
            edited=arrival.edited,
            period_changed=known_s is not None and known_s != monitor.interval,
        )

    async def _remove(self, term: Term, ids: Sequence[MonitorId]) -> int:
        if not ids:
            return 0
        # An id that is none may be no text at all, and then nothing can be written of it.
        drops = [Drop(id_, stale_task(id_) if is_monitor_id(id_) else b"") for id_ in ids]
        async with self._writing:
            self._copy.forget(ids, time.monotonic())
            return await self._schedule.remove(term.node_id, drops)
