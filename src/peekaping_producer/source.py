"""Where a batch's monitors come from: the database, or while it is away the last known good copy."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence

from peekaping_producer.backoff import Backoff
from peekaping_producer.catalog.catalog import Catalog
from peekaping_producer.catalog.last_known import PUSH, LastKnown
from peekaping_producer.catalog.reading import Reading, is_monitor_id
from peekaping_producer.errors import Unavailable
from peekaping_producer.monitor import MonitorId
from peekaping_producer.node import Node

_IDLE_S = 60.0
_CHECKS = "checks"


class Source:
    """Reads batches for the path of checks, and never fails: a database that is away is not asked on it any more.

    The first read that fails opens the breaker. From then on batches are answered from the copy at once, and a probe
    aside reads the newest batch again and again until it succeeds. A whole batch, so that a database that is merely
    slow does not take turns at being away; and the newest, so that one batch that always fails keeps nothing open.
    """

    def __init__(self, node: Node, catalog: Catalog, copy: LastKnown) -> None:
        """Take the catalogue, and the copy to keep."""
        self._node = node
        self._catalog = catalog
        self._copy = copy
        self._away_since_s: float | None = None
        self._back_since_s = 0.0
        self._put_off_turn_s = 0.0
        self._newest_batch: Sequence[MonitorId] = ()
        self._opened = node.stop.bell()
        self._backoff = Backoff(node.timing.retry_first_s, node.timing.probe_cap_s)

    @property
    def away(self) -> bool:
        """Tell whether batches are answered from the copy."""
        return self._away_since_s is not None

    async def read(self, ids: Sequence[MonitorId], until_s: float) -> Reading:
        """Return what is known of these monitors, by this host's monotonic instant `until_s`."""
        began_s = time.monotonic()
        if self.away:
            if any(map(is_monitor_id, ids)):
                self._newest_batch = ids
        elif began_s < until_s:  # else it is this process that stood still
            try:
                reading = await self._read(ids, until_s - began_s)
            except Unavailable as error:
                # One that began before the breaker closed, or opened, says nothing of now.
                if began_s >= self._back_since_s:
                    self._open(error, ids)
            else:
                self._copy.keep(ids, reading, began_s)
                # Where all was set aside, the database may not even have been asked.
                if not self.away and len(reading.aside) < len(ids):
                    self._backoff.reset()
                return reading
        return self._from_copy(ids)

    def _from_copy(self, ids: Sequence[MonitorId]) -> Reading:
        now_s = time.monotonic()
        reading = self._copy.read(ids, self._away_since_s or now_s, now_s)
        self._node.database.served_from_copy(len(reading.found), reading.age_s)
        self._node.tally.from_copy(len(reading.found), reading.age_s)
        return reading

    def delays_ms(self, put_off: Mapping[MonitorId, str]) -> dict[MonitorId, int]:
        """Return after what delay each of the monitors that were put off, for these reasons, is due again."""
        timing, now_s = self._node.timing, time.monotonic()
        delays_ms: dict[MonitorId, int] = {}
        for id_, reason in put_off.items():
            retry_ms = timing.push_retry_ms if reason == PUSH else timing.unknown_retry_ms
            # Jitter, or two nodes in step would leave it to the same one each time.
            delay_s = retry_ms / 1000 * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
            self._put_off_turn_s = max(now_s, self._put_off_turn_s) + 1 / timing.put_off_per_s
            delays_ms[id_] = int((self._put_off_turn_s - now_s + delay_s) * 1000)
        return delays_ms

    async def probe_loop(self) -> None:
        """Probe a database that is away until it is back, until it is time to stop."""
        while not self._node.stop:
            if not self.away:
                await self._opened.within(_IDLE_S)
            elif not await self._node.stop.within(self._backoff.next_delay_s()) and self.away:
                await self._probe()

    async def _probe(self) -> None:
        ids, began_s = self._newest_batch, time.monotonic()
        async with self._node.stop.cutting_short():
            try:
                reading = await self._read(ids, self._node.timing.read_deadline_s)
            except Unavailable as error:
                self._node.failed(error, _CHECKS)
            else:
                self._copy.keep(ids, reading, began_s)
                # The delays go on growing until a batch has been read too.
                self._close()

    async def _read(self, ids: Sequence[MonitorId], within_s: float) -> Reading:
        try:
            async with asyncio.timeout(within_s):
                return await self._catalog.read(ids)
        except TimeoutError as error:
            raise Unavailable("database", "slower than half a lease") from error

    def _open(self, error: Unavailable, ids: Sequence[MonitorId]) -> None:
        self._node.failed(error, _CHECKS)
        if self._away_since_s is None:
            self._away_since_s, self._newest_batch = time.monotonic(), ids
            self._opened.ring()

    def _close(self) -> None:
        self._away_since_s, self._back_since_s = None, time.monotonic()
        self._node.database.worked(_CHECKS)
