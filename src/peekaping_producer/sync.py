"""The sweep: brings the database's active monitors into the schedule, page by page."""

import time
from collections import Counter
from datetime import datetime

from msgspec import Struct

from peekaping_producer.backoff import Backoff
from peekaping_producer.cadence import Spacing, cadence
from peekaping_producer.catalog.sql import SqlCatalog
from peekaping_producer.clock import now_utc
from peekaping_producer.errors import Unavailable
from peekaping_producer.monitor import MonitorId, Schedulable
from peekaping_producer.node import Node
from peekaping_producer.observe.notices import Notices
from peekaping_producer.schedule.store import Entry, Schedule


class Swept(Struct, frozen=True):
    """The result of one sweep."""

    seen: int
    added: int
    moved: int
    aside: int
    seconds: float


class Sweeper:
    """Sweeps at start and again and again, so that what an event or a flush lost comes back."""

    def __init__(self, node: Node, schedule: Schedule, catalog: SqlCatalog) -> None:
        """Take the stores."""
        self._node = node
        self._timing = node.timing
        self._schedule = schedule
        self._catalog = catalog
        self._aside = Notices(node.log, "monitors not scheduled")
        self._last_began: datetime | None = None
        self._empty_told = False

    async def loop(self) -> None:
        """Sweep until it is time to stop."""
        backoff = Backoff(self._timing.retry_first_s, self._timing.retry_cap_s)
        while not self._node.stop:
            try:
                epoch = await self._schedule.epoch()
                swept = await self.sweep()
                self._node.database.worked()
                self._tell(swept)
                await self._until_next(epoch)
            except Unavailable as error:
                self._node.failed(error)
                await self._node.stop.within(backoff.next_delay_s())
            else:
                backoff.reset()

    async def _until_next(self, epoch: str) -> None:
        """Wait until the next sweep is due, which is at once when Redis has lost its data."""
        next_s = time.monotonic() + self._timing.sweep_every_s
        while time.monotonic() < next_s and not await self._node.stop.within(self._timing.epoch_every_s):
            if await self._schedule.epoch() != epoch:
                self._node.log.warning("Redis lost its data, the schedule is being rebuilt")
                return

    async def sweep(self) -> Swept:
        """Schedule every active monitor once; raises Unavailable when a page could not be read or written."""
        started_s, began = time.monotonic(), now_utc()
        counts: Counter[str] = Counter()
        seen = aside = 0
        after: MonitorId | None = None
        while True:
            page = await self._catalog.active(after, self._timing.sweep_page)
            self._aside.tell(page.aside)
            placed = Counter(await self._schedule.schedule([self._entry(monitor) for monitor in page.monitors]))
            if placed["added"] or placed["moved"]:
                self._node.due_sooner.ring()
            counts += placed
            seen += len(page.monitors)
            aside += len(page.aside)
            after = page.next_after
            if after is None or self._node.stop:
                break
        self._last_began = began
        return Swept(seen, counts["added"], counts["moved"], aside, round(time.monotonic() - started_s, 3))

    def _entry(self, monitor: Schedulable) -> Entry:
        """Make one created since the last sweep due at once: nobody waits a period to see a new monitor work."""
        new = bool(self._last_began and monitor.created_at and monitor.created_at >= self._last_began)
        return Entry(monitor.id, cadence(monitor.id, monitor.interval, Spacing.SPREAD), at_once=new)

    def _tell(self, swept: Swept) -> None:
        if swept.added or swept.moved:
            self._node.log.info(
                "sweep finished", seen=swept.seen, added=swept.added, moved=swept.moved, s=swept.seconds
            )
        else:
            self._node.log.debug("sweep finished, nothing to change", seen=swept.seen, s=swept.seconds)
        empty = swept.seen == 0
        if empty and not self._empty_told:
            self._node.log.warning("no active monitor found: nothing to check until one is created or activated")
        self._empty_told = empty
