"""What the loops know of the database, whichever kind it is."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from peekaping_producer.catalog.reading import Changes, Named, Page, Place, Reading
from peekaping_producer.config.settings import DbType, Settings
from peekaping_producer.model.monitor import MonitorId


class Catalog(Protocol):
    """Reads monitors and what belongs to them.

    Every read raises Unavailable unless it succeeded as a whole (invariant 6).
    """

    async def check(self) -> None:
        """Make sure that the database answers and is Peekaping's.

        Raises Unavailable while it does not answer, or lacks tables that migrations may still make, and
        ConfigurationError for what only a person can fix.
        """

    async def read(self, ids: Sequence[MonitorId]) -> Reading:
        """Read monitors by their ids, with proxies, active maintenances and (for push) newest heartbeats."""

    async def active(self, after: MonitorId | None, limit: int) -> Page:
        """Read a page of at most `limit` active monitors whose ids come behind `after`."""

    async def active_of(self, ids: Sequence[MonitorId], *, urgent: bool = False) -> Page:
        """Read those of these monitors that are active; any other is inactive, or has no row.

        An urgent read has a connection of its own: it never waits for a read of a whole table.
        """

    async def changed(self, since: datetime, after: Place | None, limit: int) -> Changes:
        """Read a page of at most `limit` monitors changed at or after `since`, behind the place `after`."""

    async def names(self, ids: Sequence[MonitorId]) -> dict[MonitorId, str]:
        """Read the names of monitors, active or not; one that has no row, or no name that is text, is left out."""

    async def named(self, name: str) -> list[Named]:
        """Read the monitors of this name, active or not: exactly, or else but for upper and lower case, up to 100.

        SQLite knows the two cases of A to Z only.
        """

    async def close(self) -> None:
        """Close all connections."""


def open_catalog(
    settings: Settings, *, connections: int, timeout_s: float, scan_timeout_s: float | None = None
) -> Catalog:
    """Return the catalogue of the database that is set; nothing is connected yet.

    It opens at most `connections` for batches, one for urgent reads, and one for reads of whole tables, each when it
    is first needed. A read may take `timeout_s`; one of a whole table, or of a page of it, `scan_timeout_s` (the same
    where that is not given).
    """
    scan_timeout_s = timeout_s if scan_timeout_s is None else scan_timeout_s
    # Only the driver that is needed is imported: each takes a good part of the time to start.
    if settings.db_type is DbType.MONGO:
        from peekaping_producer.catalog.mongo import MongoCatalog  # noqa: PLC0415

        return MongoCatalog(settings, connections=connections, timeout_s=timeout_s, scan_timeout_s=scan_timeout_s)
    from peekaping_producer.catalog.sql import SqlCatalog  # noqa: PLC0415

    return SqlCatalog(settings, connections=connections, timeout_s=timeout_s, scan_timeout_s=scan_timeout_s)
