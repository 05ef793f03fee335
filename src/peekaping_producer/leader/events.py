"""Subscribes the leader to the API server's events, which are hints to read a monitor (docs/protocol.md, section 3)."""

import math
import time
from collections.abc import Iterable, Sequence
from itertools import islice

from redis.asyncio import Redis

from peekaping_producer.leader.duty import Duty
from peekaping_producer.leader.event_intake import EventIntake
from peekaping_producer.leader.event_message import CREATED, DELETED, UPDATED
from peekaping_producer.leader.event_queue import MOST_AWAITED, PendingRead, ReadQueue
from peekaping_producer.leader.sync import Arrival, Sync
from peekaping_producer.leader.term import Term
from peekaping_producer.model.monitor import MonitorId, Schedulable
from peekaping_producer.node.node import Node
from peekaping_producer.node.stop import Bell
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.paced import Paced
from peekaping_producer.redisdb.subscription import listen

_UNREAD_AFTER_S = 0.5
"""A monitor that an event says is gone is removed on the strength of the event alone if it was not read within this."""
_IDLE_S = 60.0


class EventReader:
    """Reads each monitor that an event names, at once and again some seconds later, and acts on what it read."""

    def __init__(self, node: Node, redis: Redis, sync: Sync, sweep_wanted: Bell) -> None:
        """Take the connection to listen on, what acts, and the bell that asks for a sweep."""
        self._node = node
        self._timing = node.timing
        self._redis = redis
        self._sync = sync
        self._sweep_wanted = sweep_wanted
        self._database = node.database_outage.user()
        self._reads = ReadQueue(self._timing.reread_after_s)
        self._acted_on = Paced(node.log.debug, LogEvent.EVENTS_HANDLED, node.timing.often_logged_every_s)
        self._intake = EventIntake(node)
        self._read_wanted = node.stop.bell()
        self._gone_s: dict[MonitorId, float] = {}
        """When an event said that a monitor is gone; only monitors that were not read or removed since."""
        self._gone_came = node.stop.bell()

    def duties(self) -> tuple[Duty, Duty, Duty]:
        """Return the duties: to listen, to remove what cannot be read, and to read and act."""
        return (
            Duty("listen", self.listen),
            Duty("removal", self.remove_unread),
            Duty("events", self.act, self._database),
        )

    async def listen(self, term: Term) -> None:
        """Listen until the term is over. What was published before the subscription is left to a sweep."""
        del term  # the election ends the wait
        # Events that were missed may have restored them.
        self._gone_s.clear()
        channels = [CREATED, UPDATED, DELETED]
        await listen(self._redis, channels, self._timing, self.take, self._sweep_wanted.ring)

    def take(self, channel: str, data: bytes) -> None:
        """Take one message."""
        event = self._intake.read(channel, data)
        if event is None:
            return
        if not event.gone:
            self._gone_s.pop(event.monitor_id, None)
        elif len(self._gone_s) < MOST_AWAITED:
            self._gone_s[event.monitor_id] = time.monotonic()
            self._gone_came.ring()
        if len(self._reads) >= MOST_AWAITED:
            self._sweep_wanted.ring()
            return
        self._reads.add(event.monitor_id)
        self._read_wanted.ring()

    async def remove_unread(self, term: Term) -> None:
        """Remove monitors that events say are gone, and that could not be read in time, until the term is over."""
        while not term.is_over:
            long_ago_s = time.monotonic() - _UNREAD_AFTER_S
            waiting = (id_ for id_, since_s in self._gone_s.items() if since_s <= long_ago_s)
            unread = list(islice(waiting, self._timing.sweep_page))
            if unread:
                await self._sync.remove_unverified(term, unread)
                self._forget_gone(unread, long_ago_s)
            else:
                wait_s = min(self._gone_s.values(), default=math.inf) - long_ago_s
                await self._gone_came.within(min(wait_s, _IDLE_S))

    def _forget_gone(self, ids: Iterable[MonitorId], said_until_s: float) -> None:
        for id_ in ids:
            if self._gone_s.get(id_, math.inf) <= said_until_s:
                del self._gone_s[id_]

    async def act(self, term: Term) -> None:
        """Read the monitors that events have named, in batches, and act on them, until the term is over."""
        await self._reads.act_when_due(term, self._timing.sweep_page, self._read_wanted, self._act_on)

    async def _act_on(self, term: Term, stage: int, reads: Sequence[PendingRead]) -> None:
        seen = {read.monitor_id: read.seen for read in reads}

        def arrival(monitor: Schedulable) -> Arrival:
            return Arrival(at_once=True, edited=stage == 0 or monitor.updated_at != seen[monitor.id])

        began_s = time.monotonic()
        synced = await self._sync.reconcile(term, list(seen), arrival)
        self._database.recovered()
        self._forget_gone(seen, began_s)
        self._reads.done(stage, reads, synced.active)
        self._acted_on.add({"monitors": len(reads), **synced.counts})
