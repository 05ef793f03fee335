"""Where a batch's monitors come from: the database or, while it is unavailable, the cache (invariant 6)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from peekaping_producer.catalog.catalog import Catalog
from peekaping_producer.catalog.last_known import LastKnown
from peekaping_producer.catalog.reading import Reading
from peekaping_producer.errors import Unavailable
from peekaping_producer.model.ids import is_monitor_id
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.node.backoff import Backoff
from peekaping_producer.node.node import Node

_IDLE_S = 60.0
T = TypeVar("T")


class Source:
    """Reads batches of monitors, and never fails: while the database is unavailable, it answers from the cache.

    The first read that fails opens the breaker. From then on batches are answered from the cache at once, including
    those whose reads are under way. Meanwhile a probe reads the newest batch again and again until it succeeds: a whole
    batch, so that a slow database does not flap between available and unavailable; the newest, so that one batch
    that always fails does not keep the breaker open.
    """

    def __init__(self, node: Node, catalog: Catalog, cache: LastKnown) -> None:
        """Take the catalog, and the cache to fill."""
        self._node = node
        self._database = node.database_outage.user()
        self._catalog = catalog
        self.cache = cache
        self.unavailable_since_s: float | None = None
        """Since when batches are answered from the cache, by the monotonic clock; None while they are not."""
        self._closed_at_s = 0.0
        self._newest_batch: Sequence[MonitorId] = ()
        self._opened = node.stop.bell()
        self._reads: set[asyncio.Timeout] = set()
        self._backoff = Backoff(node.timing.retry_first_s, node.timing.probe_cap_s)

    @property
    def serving_from_cache(self) -> bool:
        """Whether batches are answered from the cache."""
        return self.unavailable_since_s is not None

    def open_breaker(self) -> None:
        """Open the breaker, though no batch may have failed yet: this node could not read anything as leader."""
        if not self.serving_from_cache:
            self._open(Unavailable("database", "all reads of the leader fail"), self._newest_batch)

    async def read(self, ids: Sequence[MonitorId], until_s: float) -> Reading:
        """Return what is known of these monitors. `until_s` is the deadline, by the monotonic clock."""
        began_s = time.monotonic()
        if self.serving_from_cache:
            if any(map(is_monitor_id, ids)):
                self._newest_batch = ids
        elif began_s < until_s:  # otherwise this process was suspended
            try:
                reading = await self._answer(partial(self._catalog.read, ids), until_s - began_s)
            except Unavailable as error:
                # A read that began before the breaker last opened or closed says nothing about now.
                if began_s >= self._closed_at_s and not self.serving_from_cache:
                    self._open(error, ids)
            else:
                self.cache.keep(ids, reading, began_s)
                # If all are invalid, the database may not even have been asked.
                if not self.serving_from_cache and len(reading.invalid) < len(ids):
                    self._backoff.reset()
                    self._node.database_outage.answered()
                return reading
        return self._from_cache(ids)

    def _from_cache(self, ids: Sequence[MonitorId]) -> Reading:
        now_s = time.monotonic()
        reading = self.cache.read(ids, self.unavailable_since_s or now_s, now_s)
        self._node.tally.add_from_cache(len(reading.found), reading.age_s)
        return reading

    async def probe_loop(self) -> None:
        """Probe the database while it is unavailable, until it is time to stop."""
        while not self._node.stop:
            if not self.serving_from_cache:
                await self._opened.within(_IDLE_S)
            elif not await self._node.stop.within(self._backoff.next_delay_s()) and self.serving_from_cache:
                await self._probe()

    async def _probe(self) -> None:
        ids, began_s, deadline_s = self._newest_batch, time.monotonic(), self._node.timing.read_deadline_s
        async with self._node.stop.cutting_short():
            try:
                if ids:
                    self.cache.keep(ids, await self._answer(partial(self._catalog.read, ids), deadline_s), began_s)
                else:
                    await self._answer(partial(self._catalog.active, None, 1), deadline_s)
            except Unavailable as error:
                self._database.failed(error)
            else:
                # The delays are reset only after a batch has been read.
                self._close()

    async def _answer(self, read: Callable[[], Awaitable[T]], within_s: float) -> T:
        """Return what a read returns. Raises Unavailable if it is too slow, or cut short by the breaker."""
        try:
            async with asyncio.timeout(within_s) as limit:
                self._reads.add(limit)
                try:
                    return await read()
                finally:
                    self._reads.discard(limit)
        except TimeoutError as error:
            raise Unavailable("database", "no answer within half of the time that a claim lasts") from error

    def _open(self, error: Unavailable, ids: Sequence[MonitorId]) -> None:
        self._database.failed(error)
        if self.unavailable_since_s is None:
            self.unavailable_since_s, self._newest_batch = time.monotonic(), ids
            self._opened.ring()
            now_s = asyncio.get_running_loop().time()
            for limit in self._reads:
                if not limit.expired():
                    limit.reschedule(now_s)

    def _close(self) -> None:
        self.unavailable_since_s, self._closed_at_s = None, time.monotonic()
        self._database.recovered()
        # What the cache could not serve is overdue: claim it at once.
        self._node.due_sooner.ring()
