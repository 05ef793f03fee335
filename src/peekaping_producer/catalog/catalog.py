"""The catalog: what the loops know of the database, whichever kind it is."""

from collections.abc import Sequence
from datetime import datetime
from importlib import import_module
from typing import Final, Protocol

from peekaping_producer import APPLICATION
from peekaping_producer.catalog.limits import Limits
from peekaping_producer.catalog.reading import Changes, Counts, Facts, Named, Page, Place, Reading, Result
from peekaping_producer.config.settings import DbType, Settings
from peekaping_producer.errors import ConfigurationError
from peekaping_producer.model.monitor import MonitorId

_MODULES: Final = {
    DbType.POSTGRES: "postgres",
    DbType.MYSQL: "mysql",
    DbType.SQLITE: "sqlite",
    DbType.MONGO: "mongo",
}
"""The module of each database, which opens its catalog. Only the one in use is imported: each driver takes time."""
_EXTRAS: Final = {DbType.MYSQL: "mysql", DbType.MONGO: "mongo"}
"""The extras that install the drivers that a plain installation lacks."""


class Catalog(Protocol):
    """Reads monitors and what belongs to them.

    Every read raises Unavailable unless it succeeded as a whole (invariant 6).
    """

    @property
    def connections(self) -> int:
        """The most batches that it reads at the same time."""

    def is_id(self, text: str) -> bool:
        """Return whether this is a valid monitor id in this kind of database."""

    async def check(self) -> None:
        """Make sure that the database answers and is Peekaping's.

        Raises Unavailable while it does not answer, or lacks tables that migrations may still create, and
        ConfigurationError for what only an operator can fix.
        """

    async def read(self, ids: Sequence[MonitorId]) -> Reading:
        """Read monitors by their ids, with proxies, active maintenances and (for push) newest heartbeats."""

    async def active(self, after: MonitorId | None, limit: int) -> Page:
        """Read a page of at most `limit` active monitors whose ids come after `after`."""

    async def active_of(self, ids: Sequence[MonitorId], *, urgent: bool = False) -> Page:
        """Read those of these monitors that are active; any other is inactive, or has no row.

        An urgent read has its own connection, so that it never waits for a read of a whole table.
        """

    async def changed(self, since: datetime, after: Place | None, limit: int) -> Changes:
        """Read a page of at most `limit` monitors changed at or after `since`, from the place `after` on."""

    async def names(self, ids: Sequence[MonitorId]) -> dict[MonitorId, str]:
        """Read the names of monitors, active or not, except those that have no row, or whose name is not text."""

    async def named(self, name: str) -> list[Named]:
        """Read up to 100 monitors of this name, active or not; if none matches exactly, those that match in any case.

        SQLite ignores case in A to Z only.
        """

    async def search(self, text: str, limit: int) -> list[Named]:
        """Read up to `limit` monitors, active or not, whose names contain a text in any case, in the order of names.

        SQLite ignores case in A to Z only.
        """

    async def results(self, id_: MonitorId, limit: int) -> list[Result]:
        """Read the newest results of a monitor's checks, the newest first."""

    async def facts(self) -> Facts:
        """Return what kind of database this is, and how it is connected."""

    async def counts(self) -> Counts:
        """Count the monitors, up to 100,000."""

    async def close(self) -> None:
        """Close all connections."""


def open_catalog(
    settings: Settings, *, connections: int, timeout_s: float, scan_timeout_s: float | None = None
) -> Catalog:
    """Return the catalog of the configured database; each connection is opened when it is first needed.

    It opens at most `connections` for batches, one for urgent reads, and one for reads of whole tables. A read may
    take `timeout_s`; one of a whole table, or of a page of it, `scan_timeout_s` (by default the same).
    Raises ConfigurationError for settings that the driver rejects, and if the driver is not installed.
    """
    limits = Limits(connections, timeout_s, timeout_s if scan_timeout_s is None else scan_timeout_s)
    try:
        module = import_module(f"{__package__}.{_MODULES[settings.db_type]}")
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(settings.db_type)
        if extra is None:
            raise
        raise ConfigurationError(
            f"DB_TYPE is {settings.db_type}, and its driver is not installed: pip install '{APPLICATION}[{extra}]'"
        ) from error
    catalog: Catalog = module.open_catalog(settings, limits)
    return catalog
