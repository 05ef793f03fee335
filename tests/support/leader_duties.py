"""A leader's duties on real stores, to be driven one at a time or by a real election."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from redis.asyncio import Redis

from peekaping_producer.catalog.catalog import Catalog
from peekaping_producer.catalog.last_known import MB, LastKnown
from peekaping_producer.catalog.reading import Changes, Counts, Facts, Named, Page, Place, Reading, Result
from peekaping_producer.config.settings import Settings
from peekaping_producer.errors import Unavailable
from peekaping_producer.leader.changes import ChangeReader
from peekaping_producer.leader.duty import Duty
from peekaping_producer.leader.election import Election
from peekaping_producer.leader.events import EventReader
from peekaping_producer.leader.sweep import Sweeper
from peekaping_producer.leader.sync import Sync
from peekaping_producer.leader.term import Term, Terms
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.timing import Timing
from support.catalogues import opened
from support.databases import Database
from support.leader_key import LEADER_ID, lead
from support.nodes import LONG_S, TestNode, a_term, running

Moment = Callable[[str, int], Awaitable[None]]
"""Called with the name of a reading and its number among those of its name, from 1."""

HUNG_S = 0.5
CALM = Timing(
    term_ms=600_000,
    election_every_s=LONG_S,
    sweep_every_s=LONG_S,
    changes_every_s=LONG_S,
    reread_after_s=(),
    retry_first_s=0.02,
    retry_cap_s=0.1,
    redis_timeout_s=10,
)
"""Nothing happens by itself but what the test asks for."""


async def _nothing(_name: str, _number: int) -> None:
    pass


class WatchedCatalog:
    """A real catalog whose readings are counted, with moments before and after each for the test to act in."""

    def __init__(self, catalog: Catalog) -> None:
        self.readings: Counter[str] = Counter()
        self.most_ids = 0
        """The most ids that one reading was asked for."""
        self.before: Moment = _nothing
        self.after: Moment = _nothing
        self._catalog = catalog

    @property
    def connections(self) -> int:
        return self._catalog.connections

    def is_id(self, text: str) -> bool:
        return self._catalog.is_id(text)

    async def check(self) -> None:
        await self._catalog.check()

    async def read(self, ids: Sequence[MonitorId]) -> Reading:
        await self._begin("read", ids)
        reading = await self._catalog.read(ids)
        await self.after("read", self.readings["read"])
        return reading

    async def active(self, after: MonitorId | None, limit: int) -> Page:
        await self._begin("active")
        page = await self._catalog.active(after, limit)
        await self.after("active", self.readings["active"])
        return page

    async def active_of(self, ids: Sequence[MonitorId], *, urgent: bool = False) -> Page:
        await self._begin("active_of", ids)
        page = await self._catalog.active_of(ids, urgent=urgent)
        await self.after("active_of", self.readings["active_of"])
        return page

    async def changed(self, since: datetime, after: Place | None, limit: int) -> Changes:
        await self._begin("changed")
        changes = await self._catalog.changed(since, after, limit)
        await self.after("changed", self.readings["changed"])
        return changes

    async def names(self, ids: Sequence[MonitorId]) -> dict[MonitorId, str]:
        return await self._catalog.names(ids)

    async def named(self, name: str) -> list[Named]:
        return await self._catalog.named(name)

    async def search(self, text: str, limit: int) -> list[Named]:
        return await self._catalog.search(text, limit)

    async def results(self, id_: MonitorId, limit: int) -> list[Result]:
        return await self._catalog.results(id_, limit)

    async def facts(self) -> Facts:
        return await self._catalog.facts()

    async def counts(self) -> Counts:
        return await self._catalog.counts()

    async def close(self) -> None:
        await self._catalog.close()

    async def _begin(self, name: str, ids: Sequence[MonitorId] = ()) -> None:
        self.readings[name] += 1
        self.most_ids = max(self.most_ids, len(ids))
        await self.before(name, self.readings[name])


class Leader:
    """A node with all that a leader's duties need."""

    def __init__(self, redis: Redis, catalog: Catalog, timing: Timing) -> None:
        self.test = TestNode(timing, id_=LEADER_ID)
        node = self.test.node
        self.redis = redis
        self.catalog = WatchedCatalog(catalog)
        self.schedule = Schedule(redis, timing)
        self.cache = LastKnown(MB)
        self.sync = Sync(node, self.schedule, self.catalog, self.cache)
        self.sweep_wanted = node.stop.bell()
        self.sweeper = Sweeper(node, self.schedule, self.sync, self.sweep_wanted)
        self.changes = ChangeReader(node, self.sync)
        self.events = EventReader(node, redis, self.sync, self.sweep_wanted)
        self.term: Term = a_term()

    @asynccontextmanager
    async def elected(self, *duties: Duty) -> AsyncIterator[None]:
        """Lead, with these duties, for the duration of the block."""
        node = self.test.node
        election = Election(node, Terms(self.redis, node.id, node.timing), node.stop.bell(), duties)
        async with running(election.loop()):
            yield


async def hang_once(led: Leader, reading: str, name: str, number: int) -> None:
    """Let the first reading of this name hang for a second; batches find the database unavailable after half of it."""
    if name == reading and number == 1:
        await asyncio.sleep(HUNG_S)
        batches = led.test.node.database_outage.user()
        batches.failed(Unavailable("database", "no answer"))
        await asyncio.sleep(HUNG_S)
        batches.recovered()


@asynccontextmanager
async def leader(redis: Redis, database: Database | Settings, timing: Timing = CALM) -> AsyncIterator[Leader]:
    """Make a leader whose term stays in Redis until the test ends."""
    await lead(redis)
    async with opened(database, timeout_s=10) as catalog:
        yield Leader(redis, catalog, timing)
