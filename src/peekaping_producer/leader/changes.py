"""The leader's poll for changes by `updated_at`: finds what an event missed, long before the next sweep."""

import math
import time
from datetime import datetime, timedelta

from msgspec import Struct

from peekaping_producer.catalog.reading import Place
from peekaping_producer.clock import now_utc
from peekaping_producer.errors import Unavailable
from peekaping_producer.leader.duty import Duty
from peekaping_producer.leader.sync import Sync, new_since
from peekaping_producer.leader.term import Term
from peekaping_producer.node.node import Node


class _Poll(Struct):
    """A poll that is under way."""

    began: datetime
    since: datetime
    after: Place | None = None
    """Where its next page begins."""


class ChangeReader:
    """Reads the rows that were changed since the last poll less an overlap, in a bounded share of the leader's time."""

    def __init__(self, node: Node, sync: Sync) -> None:
        """Take what reads and acts."""
        self._node = node
        self._timing = node.timing
        self._sync = sync
        self._database = node.database_outage.user()
        self._behind: timedelta | None = None
        """The most, as far as is known, that the clock that writes `updated_at` is behind ours."""
        self._term: Term | None = None
        self._poll: _Poll | None = None
        """The poll under way: after a failure it goes on with the page that failed."""
        self._polled = now_utc()
        """When the last complete poll began."""

    def duty(self) -> Duty:
        """Return the duty to poll."""
        return Duty("changes", self.run, self._database)

    async def run(self, term: Term) -> None:
        """Poll until the term is over. What was changed before the term is found by its first sweep."""
        if term is not self._term:
            self._term, self._polled, self._poll = term, now_utc(), None
        outage, every_s = self._node.database_outage, self._timing.changes_every_s
        last_cost_s = math.inf
        await term.ended.within(every_s)
        while not term.is_over:
            began_s, recoveries, failed = time.monotonic(), outage.recoveries, False
            try:
                await self.poll_once(term)
            except Unavailable as error:
                self._node.failed(error, self._database)
                failed = error.system == "database"
                # A failed poll costs the database as much as a successful one, unless Redis took the time.
                cost_s = time.monotonic() - began_s if failed else 0.0
            else:
                self._database.recovered()
                # The time in which a read hung, until an outage was over, cost the database nothing.
                cost_s = outage.available_s_since(began_s)
            # The lesser of two: one poll that took long says more about this machine than about the database.
            more_s = self._timing.share * min(cost_s, last_cost_s) - every_s
            last_cost_s = cost_s
            await term.ended.within(every_s)
            if not failed:
                await term.ended.within(more_s)
            elif outage.recoveries == recoveries:
                # No wait if the database has answered somebody since: the poll failed because of the outage.
                await outage.recovery_within(more_s)

    async def poll_once(self, term: Term) -> None:
        """Poll, from where the last poll failed if it did. Raises Unavailable for a page that was not read."""
        if self._poll is None:
            now = now_utc()
            self._poll = _Poll(now, self._since(now))
        poll = self._poll
        arrival = new_since(poll.since)
        while not term.is_over:
            poll.after = await self._sync.reconcile_changed(term, poll.since, poll.after, arrival)
            if poll.after is None:
                self._poll, self._polled = None, poll.began
                return

    def _since(self, now: datetime) -> datetime:
        newest = self._sync.newest_change
        if newest is not None:
            behind = max(now - newest, timedelta())
            self._behind = behind if self._behind is None else min(self._behind, behind)
        overlap = timedelta(seconds=self._timing.changes_overlap_s)
        return min(now, self._polled) - (self._behind or timedelta()) - overlap
