"""What the page reads from the database: with connections of its own, so that it never takes one that checks need."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

from peekaping_producer.catalog.catalog import Catalog, open_catalog
from peekaping_producer.catalog.last_known import LastKnown
from peekaping_producer.catalog.reading import Named
from peekaping_producer.config.settings import Settings
from peekaping_producer.errors import Unavailable
from peekaping_producer.model.ids import is_monitor_id
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.node.node import Node
from peekaping_producer.node.stop import Bell, Stop

T = TypeVar("T")
_WITHIN_S = 2.0
MOST_FOUND = 50
_CLOSED_AFTER_S = 60.0
_NAMES_KEPT_S = 60.0
_NAMES_EVERY_S = 0.5
_NAMES_WAIT_S = 0.25
"""The page shows ids instead of names that take longer."""
_NAMES_AT_ONCE = 100
_MOST_NAMES = 1_000
_SEARCHED_AT_ONCE = 500


class Lookups:
    """Reads the database for people. Every read raises Unavailable, at once while an outage is known."""

    def __init__(self, node: Node, settings: Settings, cache: LastKnown) -> None:
        """Nothing is connected before the first read."""
        self._node = node
        self._settings = settings
        self._cache = cache
        self._catalog: Catalog | None = None
        self._readers = 0
        self._closed_from_s = 0.0

    async def read(self, work: Callable[[Catalog], Awaitable[T]]) -> T:
        """Return what `work` reads from the catalog."""
        async with self._opened() as catalog:
            outage = self._node.database_outage
            if outage.ongoing or not outage.has_answered:
                raise Unavailable("database", outage.reason or "it has not answered yet")
            return await work(catalog)

    async def search(self, text: str) -> tuple[list[Named], str | None]:
        """Return monitors whose names contain a text, and why only the cache was searched; None if it was not."""
        try:
            return await self.read(lambda catalog: catalog.search(text, MOST_FOUND)), None
        except Unavailable as error:
            return await self._cache.search(text, MOST_FOUND, _SEARCHED_AT_ONCE), str(error)

    async def loop(self, stop: Stop) -> None:
        """Close the connections when nobody has needed them for a minute, until it is time to stop; then at once."""
        try:
            while not await stop.within(1.0):
                if not self._readers and time.monotonic() > self._closed_from_s:
                    await self._close()
        finally:
            await self._close()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Catalog]:
        if self._catalog is None:
            self._catalog = open_catalog(self._settings, connections=1, timeout_s=_WITHIN_S)
        self._readers += 1
        try:
            yield self._catalog
        finally:
            self._readers -= 1
            self._closed_from_s = time.monotonic() + _CLOSED_AFTER_S

    async def _close(self) -> None:
        catalog, self._catalog = self._catalog, None
        if catalog:
            await catalog.close()


class MonitorNames:
    """Names for the page: from the cache, or read from the database, with only a short wait for its answer.

    See NameSource.
    """

    def __init__(self, lookups: Lookups, cache: LastKnown, wanted: Bell) -> None:
        """Take a bell, which is rung when there are names to read."""
        self.problem: str | None = None
        self._lookups = lookups
        self._cache = cache
        self._read: dict[str, tuple[str | None, float]] = {}
        """Id → name, if it has one, and when it was read."""
        self._missing: set[MonitorId] = set()
        self._wanted = wanted
        self._answered = asyncio.Event()
        """Set, and replaced, when some have been read."""

    async def of(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the names that are known, or become known soon."""
        wanted = {MonitorId(id_) for id_ in ids if is_monitor_id(id_)}
        known = self._known(wanted)
        unread = self._unread(wanted - known.keys())
        if not unread:
            return known
        self._missing |= unread
        self._wanted.ring()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_NAMES_WAIT_S):
                while not self.problem and self._unread(unread):
                    await self._answered.wait()
        return self._known(wanted)

    async def loop(self, stop: Stop) -> None:
        """Read the names that are missing, at most twice a second, until it is time to stop."""
        while not stop:
            if not self._missing:
                await self._wanted.within(_CLOSED_AFTER_S)
            missing, self._missing = [*self._missing][:_NAMES_AT_ONCE], set()
            if not missing:
                continue
            try:
                async with stop.cutting_short():
                    await self._look_up(missing)
            except Unavailable as error:
                self.problem = str(error)
            self._answered.set()
            self._answered = asyncio.Event()
            await stop.within(_NAMES_EVERY_S)

    def _known(self, ids: Iterable[MonitorId]) -> dict[str, str]:
        found = ((id_, self._cache.name_of(id_) or self._read.get(id_, (None, 0.0))[0]) for id_ in ids)
        return {id_: name for id_, name in found if name is not None}

    def _unread(self, ids: Iterable[MonitorId]) -> set[MonitorId]:
        old_s = time.monotonic() - _NAMES_KEPT_S
        return {id_ for id_ in ids if self._read.get(id_, (None, old_s))[1] <= old_s}

    async def _look_up(self, missing: list[MonitorId]) -> None:
        names = await self._lookups.read(lambda catalog: catalog.names(missing))
        self.problem = None
        if len(self._read) > _MOST_NAMES:
            self._read.clear()
        now_s = time.monotonic()
        self._read.update({id_: (names.get(id_), now_s) for id_ in missing})
