"""Subscribes the leader to the API server's events, which are hints to read a monitor (docs/protocol.md, section 3)."""

import math
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.errors import CorruptRecord
from peekaping_producer.leader.sync import Arrival, Sync
from peekaping_producer.leader.term import Term
from peekaping_producer.model.ids import is_monitor_id
from peekaping_producer.model.monitor import MonitorId, Schedulable
from peekaping_producer.node.node import Node
from peekaping_producer.node.stop import Bell
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.observe.paced import Paced
from peekaping_producer.redisdb.keys import PREFIX
from peekaping_producer.redisdb.subscription import listen

CREATED = f"{PREFIX}events:monitor.created"
UPDATED = f"{PREFIX}events:monitor.updated"
DELETED = f"{PREFIX}events:monitor.deleted"
MOST_AWAITED = 100_000
"""With more monitors than this to be looked at, the rest is left to a sweep."""
_UNREAD_AFTER_S = 0.5
"""What an event says is gone, and could not be read for so long, is removed by the event's word."""
_IDLE_S = 60.0
_LOOK_EVERY_S = 0.5
"""The longest wait between two looks at the clock."""


class Event(Struct, frozen=True):
    """One monitor was created, updated or deleted, or will be in a moment."""

    monitor_id: MonitorId
    gone: bool
    """Whether it says that the monitor is deleted, or not active."""


class _Row(Struct):
    id: str
    active: bool = True


class _RowMessage(Struct):
    payload: _Row | None


class _IdMessage(Struct):
    payload: str


_row_message = msgspec.json.Decoder(_RowMessage)
_id_message = msgspec.json.Decoder(_IdMessage)


def read_event(channel: str, data: bytes) -> Event | None:
    """Return what a message says; None when it is of no monitor, as a PATCH of an unknown id is.

    Raises CorruptRecord for what is no message of Peekaping's.
    """
    try:
        if channel == DELETED:
            id_, gone = _id_message.decode(data).payload, True
        else:
            row = _row_message.decode(data).payload
            if row is None:
                return None
            id_, gone = row.id, not row.active
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptRecord(str(error)) from None
    monitor_id = MonitorId(id_.lower())
    if not is_monitor_id(monitor_id):
        raise CorruptRecord("the id in it is no monitor's")
    return Event(monitor_id, gone)


class _Look(Struct, frozen=True):
    """A monitor to be read."""

    monitor_id: MonitorId
    gone: bool
    at_s: float
    seen: datetime | None = None
    """Its `updated_at` when it was read before for the same event."""


class _Looks:
    """Monitors to be read, the first time and again later. Each delay is a queue of its own, so all are in order."""

    def __init__(self, again_s: Sequence[float]) -> None:
        self._delays_s = (0.0, *again_s)
        self._queues: list[dict[MonitorId, _Look]] = [{} for _ in self._delays_s]

    def __len__(self) -> int:
        return sum(map(len, self._queues))

    def expect(self, event: Event) -> None:
        for queue in self._queues:
            queue.pop(event.monitor_id, None)
        self._queues[0][event.monitor_id] = _Look(event.monitor_id, event.gone, time.monotonic())

    def due(self, limit: int) -> tuple[int, list[_Look]]:
        """Return which queue has some that are due now, and those, at most `limit`."""
        now_s = time.monotonic()
        for stage, queue in enumerate(self._queues):
            looks = [look for look in islice(queue.values(), limit) if look.at_s <= now_s]
            if looks:
                return stage, looks
        return 0, []

    def looked(self, stage: int, looks: Sequence[_Look], active: dict[MonitorId, Schedulable]) -> None:
        """Expect them again, but those that were in the last queue, and those of which an event came meanwhile."""
        last = stage + 1 == len(self._queues)
        for look in looks:
            if self._queues[stage].get(look.monitor_id) is not look:
                continue
            del self._queues[stage][look.monitor_id]
            if not last:
                monitor = active.get(look.monitor_id)
                at_s = look.at_s + self._delays_s[stage + 1] - self._delays_s[stage]
                seen = monitor.updated_at if monitor else None
                self._queues[stage + 1][look.monitor_id] = _Look(look.monitor_id, look.gone, at_s, seen)

    @property
    def next_s(self) -> float | None:
        return min((next(iter(queue.values())).at_s for queue in self._queues if queue), default=None)


class EventReader:
    """Listens, and acts on each monitor that an event names: at once, and once more some seconds later."""

    name = "events"

    def __init__(self, node: Node, redis: Redis, sync: Sync, sweep_wanted: Bell) -> None:
        """Take the connection to listen on, what acts, and the bell that asks for a sweep."""
        self._node = node
        self._timing = node.timing
        self._redis = redis
        self._sync = sync
        self._sweep_wanted = sweep_wanted
        self._looks = _Looks(self._timing.reread_after_s)
        self._acted_on = Paced(node.log.debug, LogEvent.EVENTS_HANDLED, node.timing.often_logged_every_s)
        self._not_understood = Paced(node.log.warning, LogEvent.EVENTS_INVALID, node.timing.often_logged_every_s)
        self._came = node.stop.bell()
        self._gone_s: dict[MonitorId, float] = {}
        """Since when monitors that an event says are gone wait to be read, or to be removed unread."""
        self._gone_came = node.stop.bell()

    async def listening(self, term: Term) -> None:
        """Listen until the term is over; what was published before the subscription stood is for a sweep to find."""
        del term  # the election ends the wait
        # What was not heard meanwhile may have brought them back.
        self._gone_s.clear()
        channels = [CREATED, UPDATED, DELETED]
        await listen(self._redis, channels, self._timing, self._heard, self._sweep_wanted.ring)

    def _heard(self, channel: str, data: bytes) -> None:
        try:
            event = read_event(channel, data)
        except CorruptRecord as error:
            self._node.tally.add(Outcome.EVENT_DROPPED)
            self._not_understood.add({"count": 1}, channel=channel, reason=error.reason)
            return
        except Exception as error:  # noqa: BLE001 - one message must not end the subscription
            self._node.tally.add(Outcome.EVENT_DROPPED)
            self._node.faults.note(LogEvent.EVENT_FAILED, error, channel=channel)
            return
        if event is None:
            return
        if not event.gone:
            self._gone_s.pop(event.monitor_id, None)
        elif len(self._gone_s) < MOST_AWAITED:
            self._gone_s[event.monitor_id] = time.monotonic()
            self._gone_came.ring()
        if len(self._looks) >= MOST_AWAITED:
            self._sweep_wanted.ring()
            return
        self._looks.expect(event)
        self._came.ring()

    async def removing(self, term: Term) -> None:
        """Remove what events say is gone, unread, where a database that does not answer keeps it from being read."""
        while not term.is_over:
            long_ago_s = time.monotonic() - _UNREAD_AFTER_S
            waiting = (id_ for id_, heard_s in self._gone_s.items() if heard_s <= long_ago_s)
            unread = list(islice(waiting, self._timing.sweep_page))
            if unread:
                await self._sync.remove_unverified(term, unread)
                self._no_longer_wait(unread, long_ago_s)
            else:
                wait_s = min(self._gone_s.values(), default=math.inf) - long_ago_s
                await self._gone_came.within(min(wait_s, _IDLE_S))

    def _no_longer_wait(self, ids: Iterable[MonitorId], heard_until_s: float) -> None:
        for id_ in ids:
            if self._gone_s.get(id_, math.inf) <= heard_until_s:
                del self._gone_s[id_]

    async def acting(self, term: Term) -> None:
        """Read the monitors that events have named, in batches, and act."""
        while not term.is_over:
            stage, looks = self._looks.due(self._timing.sweep_page)
            if looks:
                await self._act(term, stage, looks)
            else:
                next_s = self._looks.next_s
                wait_s = _LOOK_EVERY_S if next_s is None else next_s - time.monotonic()
                await self._came.within(min(wait_s, _LOOK_EVERY_S))

    async def _act(self, term: Term, stage: int, looks: Sequence[_Look]) -> None:
        seen = {look.monitor_id: look.seen for look in looks}

        def arrival(monitor: Schedulable) -> Arrival:
            return Arrival(at_once=True, edited=stage == 0 or monitor.updated_at != seen[monitor.id])

        began_s = time.monotonic()
        synced = await self._sync.reconcile(term, list(seen), arrival)
        self._node.database_outage.recovered(self.name)
        self._no_longer_wait(seen, began_s)
        self._looks.looked(stage, looks, synced.active)
        self._acted_on.add({"monitors": len(looks), **synced.counts})
