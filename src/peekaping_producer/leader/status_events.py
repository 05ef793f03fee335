"""Subscribes the leader to changes of status, with PRODUCER_RETRY_INTERVAL: pending monitors are checked sooner."""

from collections.abc import Sequence

from redis.asyncio import Redis

from peekaping_producer.leader.duty import Duty
from peekaping_producer.leader.event_intake import EventIntake
from peekaping_producer.leader.event_message import STATUS_CHANGED
from peekaping_producer.leader.event_queue import MOST_AWAITED, PendingRead, ReadQueue
from peekaping_producer.leader.sync import Arrival, Sync
from peekaping_producer.leader.term import Term
from peekaping_producer.model.monitor import Schedulable
from peekaping_producer.node.node import Node
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.paced import Paced
from peekaping_producer.redisdb.subscription import listen


class StatusReader:
    """Reads each monitor whose status has changed, at once and again some seconds later, and acts on what it read.

    The row has the new status only a moment after the event, so the first read takes it from the event, and later ones
    from the row. None of this is an edit: it revokes no claim. What was published while nobody listened is found by
    the poll for changes, or by a sweep.
    """

    def __init__(self, node: Node, redis: Redis, sync: Sync) -> None:
        """Take the connection to listen on, and what acts."""
        self._timing = node.timing
        self._redis = redis
        self._sync = sync
        self._database = node.database_outage.user()
        self._intake = EventIntake(node)
        self._reads = ReadQueue(self._timing.reread_after_s)
        self._read_wanted = node.stop.bell()
        self._acted_on = Paced(node.log.debug, LogEvent.EVENTS_HANDLED, node.timing.often_logged_every_s)

    def duties(self) -> tuple[Duty, Duty]:
        """Return the duties: to listen, and to read and act."""
        return Duty("listen for status", self.listen), Duty("status events", self.act, self._database)

    async def listen(self, term: Term) -> None:
        """Listen until the term is over."""
        del term  # the election ends the wait
        await listen(self._redis, [STATUS_CHANGED], self._timing, self.take)

    def take(self, channel: str, data: bytes) -> None:
        """Take one message."""
        event = self._intake.read(channel, data)
        if event and len(self._reads) < MOST_AWAITED:
            self._reads.add(event.monitor_id, pending=event.pending)
            self._read_wanted.ring()

    async def act(self, term: Term) -> None:
        """Read the monitors that events have named, in batches, and act on them, until the term is over."""
        await self._reads.act_when_due(term, self._timing.sweep_page, self._read_wanted, self._act_on)

    async def _act_on(self, term: Term, stage: int, reads: Sequence[PendingRead]) -> None:
        pending = {read.monitor_id: read.pending for read in reads}

        def arrival(monitor: Schedulable) -> Arrival:
            return Arrival(pending=pending[monitor.id])

        synced = await self._sync.reconcile(term, list(pending), arrival)
        self._database.recovered()
        self._reads.done(stage, reads, synced.active)
        self._acted_on.add({"monitors": len(reads), **synced.counts})
