"""The database, as a table in memory whose answers to a leader arrive when the test lets them."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct

from peekaping_producer.catalog.reading import Changes, Counts, Facts, Named, Page, Place, Reading, Result
from peekaping_producer.clock import from_unix_ms
from peekaping_producer.errors import Unavailable
from peekaping_producer.model.monitor import Monitor, MonitorId, Retry, Schedulable, Snapshot
from support.go_rows import GoMonitor

RETRY_S = 15
"""The retry interval of all monitors: it divides some of their intervals."""


class Row(Struct, frozen=True):
    """One monitor."""

    interval_s: int
    active: bool
    version: int
    """Counts the edits of all rows."""
    pending: bool = False
    """Whether its last check failed and its retries are not used up."""


class Table:
    """All monitors; also what a Go node reads."""

    def __init__(self) -> None:
        self.rows: dict[MonitorId, Row] = {}

    def read(self, ids: Iterable[MonitorId]) -> Reading:
        """Return the rows of a batch as they are now."""
        found = {id_: _snapshot(id_, row) for id_ in ids if (row := self.rows.get(id_))}
        return Reading(found, {}, retries=self._retries(found))

    def page(self, ids: Iterable[MonitorId]) -> Page:
        """Return those that are active now."""
        active = {id_: row for id_ in sorted(ids) if (row := self.rows.get(id_)) and row.active}
        monitors = (Schedulable(id_, row.interval_s, None, from_unix_ms(row.version)) for id_, row in active.items())
        return Page(tuple(monitors), {}, None, self._retries(active))

    def _retries(self, ids: Iterable[MonitorId]) -> dict[MonitorId, Retry]:
        return {id_: Retry(RETRY_S, self.rows[id_].pending) for id_ in ids}

    async def monitor(self, id_: str) -> GoMonitor | None:
        """Read one for a Go node."""
        row = self.rows.get(MonitorId(id_))
        return _go_monitor(id_, row) if row else None

    async def active(self) -> list[GoMonitor]:
        """Read all that are active for a Go node."""
        return [_go_monitor(id_, row) for id_, row in self.rows.items() if row.active]


class SlowCatalog:
    """The table as one node's leader reads it: rows are read at once, and arrive when the test says so."""

    connections = 1

    def __init__(self, table: Table) -> None:
        self.table = table
        self.waiting: dict[asyncio.Task[object], asyncio.Future[bool]] = {}
        """What waits for rows."""
        self.reads = 0
        self.read_of: dict[asyncio.Task[object], int] = {}
        """The number of the newest read of each task."""

    async def active(self, after: MonitorId | None, limit: int) -> Page:  # noqa: ARG002 - all fit in one page
        return await self._arrived(self.table.page(self.table.rows))

    async def active_of(self, ids: Sequence[MonitorId], *, urgent: bool = False) -> Page:  # noqa: ARG002 - none waits
        return await self._arrived(self.table.page(ids))

    async def _arrived(self, page: Page) -> Page:
        task = _current_task()
        self.reads += 1
        self.read_of[task] = self.reads
        arrives = self.waiting[task] = asyncio.get_running_loop().create_future()
        try:
            if not await arrives:
                raise Unavailable("database", "the test says so")
        finally:
            self.waiting.pop(task, None)
        return page

    # Not called by any step.

    async def changed(self, since: datetime, after: Place | None, limit: int) -> Changes:
        raise NotImplementedError

    def is_id(self, text: str) -> bool:
        raise NotImplementedError

    async def check(self) -> None:
        raise NotImplementedError

    async def read(self, ids: Sequence[MonitorId]) -> Reading:
        raise NotImplementedError

    async def search(self, text: str, limit: int) -> list[Named]:
        raise NotImplementedError

    async def results(self, id_: MonitorId, limit: int) -> list[Result]:
        raise NotImplementedError

    async def names(self, ids: Sequence[MonitorId]) -> dict[MonitorId, str]:
        raise NotImplementedError

    async def named(self, name: str) -> list[Named]:
        raise NotImplementedError

    async def counts(self) -> Counts:
        raise NotImplementedError

    async def facts(self) -> Facts:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


def _current_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _snapshot(id_: MonitorId, row: Row) -> Snapshot:
    monitor = Monitor(id_, f"version {row.version}", "http", row.interval_s, 10, 0, 20, 0, row.active, "{}", None)
    return Snapshot(monitor, None, (), None)


def _go_monitor(id_: str, row: Row) -> GoMonitor:
    return GoMonitor(id_, f"version {row.version}", "http", row.interval_s, 10, 0, 20, 0, row.active, "{}")
