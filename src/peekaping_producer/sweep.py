"""The leader's sweep: the whole database against the whole schedule, both ways, page by page."""

import time
from collections import Counter
from datetime import datetime, timedelta

from msgspec import Struct

from peekaping_producer.catalog.reading import is_monitor_id
from peekaping_producer.clock import now_utc
from peekaping_producer.leader.term import Term
from peekaping_producer.monitor import MonitorId, Schedulable
from peekaping_producer.node import Bell, Node
from peekaping_producer.schedule.store import Cursor, Schedule
from peekaping_producer.sync import Arrival, Sync

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
    aside: int
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
        self._empty_told = False

    async def duty(self, term: Term) -> None:
        """Sweep until the term is over, in a bounded share of the time."""
        self._node.presence.strays = None
        await self._wanted.within(_SUBSCRIBED_WITHIN_S)
        while not term.is_over:
            swept = await self._sweep(term)
            self._node.database.worked(self.name)
            self._tell(swept)
            await self._wanted.within(max(self._timing.sweep_every_s, self._timing.share * swept.seconds))

    async def _sweep(self, term: Term) -> Swept:
        began_s, began = time.monotonic(), now_utc()
        progress = _Progress(self._node)
        step_noted_ms = await self._schedule.step_noted_ms()
        await self._into_the_schedule(term, progress, self._new_from or began - _NEW_BEFORE_FIRST)
        await self._out_of_the_schedule(term, progress)
        if step_noted_ms is not None and not term.is_over:
            await self._schedule.end_step(term.node_id, step_noted_ms)
        self._new_from = began
        counts = progress.counts
        return Swept(
            seen=counts["seen"],
            added=counts["added"],
            moved=counts["moved"],
            removed=counts["removed"],
            relisted=counts["relisted"],
            aside=counts["aside"],
            seconds=round(time.monotonic() - began_s, 3),
        )

    async def _into_the_schedule(self, term: Term, progress: "_Progress", new_from: datetime) -> None:
        def arrival(monitor: Schedulable) -> Arrival:
            """Make a new one due at once: nobody waits a period to see a new monitor work."""
            return Arrival(at_once=bool(monitor.created_at and monitor.created_at >= new_from))

        after: MonitorId | None = None
        presence, strays = self._node.presence, set[str]()
        while not term.is_over:
            page, counts = await self._sync.page(term, after, arrival)
            progress.add(seen=len(page.monitors), aside=len(page.aside), **counts)
            strays |= {id_ for id_ in page.aside if not is_monitor_id(id_)}
            if presence.strays is not None:
                presence.strays |= strays
            after = page.next_after
            if after is None:
                presence.strays = strays
                return

    async def _out_of_the_schedule(self, term: Term, progress: "_Progress") -> None:
        cursor: Cursor | None = None
        while not term.is_over:
            ids, cursor = await self._schedule.members(cursor, self._timing.sweep_page)
            if ids:
                progress.add(
                    removed=await self._sync.inactive(term, ids),
                    relisted=await self._schedule.relist(term.node_id, ids),
                )
            if cursor is None:
                return

    def _tell(self, swept: Swept) -> None:
        self._node.presence.swept = swept
        figures = {field: getattr(swept, field) for field in swept.__struct_fields__}
        if swept.added or swept.moved or swept.removed or swept.relisted:
            self._node.log.info("sweep finished", **figures)
        else:
            self._node.log.debug("sweep finished, nothing to change", **figures)
        empty = swept.seen == 0
        if empty and not self._empty_told:
            self._node.log.warning("no active monitor found: nothing to check until one is created or activated")
        self._empty_told = empty


class _Progress:
    """What a sweep has done so far, told now and then when it takes long."""

    def __init__(self, node: Node) -> None:
        self.counts: Counter[str] = Counter()
        self._node = node
        self._tell_again_s = time.monotonic() + _TELL_EVERY_S

    def add(self, **counts: int) -> None:
        self.counts.update(counts)
        if time.monotonic() >= self._tell_again_s:
            self._tell_again_s += _TELL_EVERY_S
            self._node.log.info("sweep goes on", **self.counts)
