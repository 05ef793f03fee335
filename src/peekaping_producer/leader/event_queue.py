"""The monitors that events have named, and when each is to be read: at once, and again later."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from itertools import islice

from msgspec import Struct

from peekaping_producer.leader.term import Term
from peekaping_producer.model.monitor import MonitorId, Schedulable
from peekaping_producer.node.stop import Bell

MOST_AWAITED = 100_000
"""If more monitors than this are to be read, the rest is left to polls for changes and to sweeps."""
_POLL_EVERY_S = 0.5
"""The longest wait before the queue is polled again."""


class PendingRead(Struct, frozen=True):
    """A monitor that is to be read."""

    monitor_id: MonitorId
    at_s: float
    """When, by the monotonic clock."""
    seen: datetime | None = None
    """Its `updated_at` when it was read before for the same event."""
    pending: bool | None = None
    """Whether the event says that it is pending, which its row may not say yet. Later reads leave it to the row."""


class ReadQueue:
    """Monitors to be read, in stages: at once, and again after each delay. Each stage is in the order of time."""

    def __init__(self, again_after_s: Sequence[float]) -> None:
        """Take the delays, each counted from the event."""
        self._delays_s = (0.0, *again_after_s)
        self._queues: list[dict[MonitorId, PendingRead]] = [{} for _ in self._delays_s]

    def __len__(self) -> int:
        """Return how many monitors are waiting."""
        return sum(map(len, self._queues))

    def add(self, monitor_id: MonitorId, *, pending: bool | None = None) -> None:
        """Have a monitor read at once, and all its later reads begin again."""
        for queue in self._queues:
            queue.pop(monitor_id, None)
        self._queues[0][monitor_id] = PendingRead(monitor_id, time.monotonic(), pending=pending)

    def due(self, limit: int) -> tuple[int, list[PendingRead]]:
        """Return the first stage that has reads due now, and these, at most `limit`."""
        now_s = time.monotonic()
        for stage, queue in enumerate(self._queues):
            reads = [read for read in islice(queue.values(), limit) if read.at_s <= now_s]
            if reads:
                return stage, reads
        return 0, []

    def done(self, stage: int, reads: Sequence[PendingRead], active: Mapping[MonitorId, Schedulable]) -> None:
        """Move reads of a stage to the next one, unless it was the last, or an event came meanwhile."""
        last = stage + 1 == len(self._queues)
        for read in reads:
            if self._queues[stage].get(read.monitor_id) is not read:
                continue
            del self._queues[stage][read.monitor_id]
            if not last:
                monitor = active.get(read.monitor_id)
                at_s = read.at_s + self._delays_s[stage + 1] - self._delays_s[stage]
                seen = monitor.updated_at if monitor else None
                self._queues[stage + 1][read.monitor_id] = PendingRead(read.monitor_id, at_s, seen)

    async def act_when_due(
        self, term: Term, limit: int, added: Bell, act: Callable[[Term, int, list[PendingRead]], Awaitable[None]]
    ) -> None:
        """Call `act` with each stage and its reads as they become due, at most `limit` at once, until the term is over.

        The bell rings when a read is added.
        """
        while not term.is_over:
            stage, reads = self.due(limit)
            if reads:
                await act(term, stage, reads)
            else:
                next_s = self.next_s
                wait_s = _POLL_EVERY_S if next_s is None else next_s - time.monotonic()
                await added.within(min(wait_s, _POLL_EVERY_S))

    @property
    def next_s(self) -> float | None:
        """When the next read is due, by the monotonic clock; None if there is none."""
        return min((next(iter(queue.values())).at_s for queue in self._queues if queue), default=None)
