"""The leader's look for changes by `updated_at`: what an event lost, found long before the next sweep."""

import time
from datetime import datetime, timedelta

from peekaping_producer.clock import now_utc
from peekaping_producer.leader.term import Term
from peekaping_producer.monitor import MonitorId, Schedulable
from peekaping_producer.node import Node
from peekaping_producer.sync import Arrival, Sync


class ChangeReader:
    """Reads what was changed since the last look less an overlap, again and again at a bounded share of the time."""

    name = "changes"

    def __init__(self, node: Node, sync: Sync) -> None:
        """Take what reads and acts."""
        self._node = node
        self._timing = node.timing
        self._sync = sync
        self._behind: timedelta | None = None
        """By how much the clock that writes `updated_at` is behind ours at most, as far as is known."""
        self._term: Term | None = None
        self._failed = False
        self._looked = now_utc()
        """When the last look began that saw all: one that fails, or takes long, leaves the more to the next."""

    async def duty(self, term: Term) -> None:
        """Look until the term is over; the sweep that it begins with sees all before."""
        if term is not self._term:
            self._term, self._looked, self._failed = term, now_utc(), False
        wait_s = 0.0 if self._failed else self._timing.changes_every_s
        while not await term.ended.within(wait_s):
            began_s, self._failed = time.monotonic(), True
            await self._look_on(term)
            self._failed = False
            self._node.database.worked(self.name)
            wait_s = max(self._timing.changes_every_s, self._timing.share * (time.monotonic() - began_s))

    async def _look_on(self, term: Term) -> None:
        now = now_utc()
        await self._look(term, self._since(now))
        self._looked = now

    def _since(self, now: datetime) -> datetime:
        newest = self._sync.newest_change
        if newest is not None:
            behind = max(now - newest, timedelta())
            self._behind = behind if self._behind is None else min(self._behind, behind)
        return (
            min(now, self._looked) - (self._behind or timedelta()) - timedelta(seconds=self._timing.changes_overlap_s)
        )

    async def _look(self, term: Term, since: datetime) -> None:
        def arrival(monitor: Schedulable) -> Arrival:
            return Arrival(at_once=bool(monitor.created_at and monitor.created_at >= since))

        after: MonitorId | None = None
        while not term.is_over:
            after = await self._sync.changed(term, since, after, arrival)
            if after is None:
                return
