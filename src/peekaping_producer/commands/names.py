"""Names of monitors for `status`, which it shows if `DB_*` is set and the database answers soon."""

import time
from collections.abc import Iterable

from peekaping_producer.catalog.catalog import Catalog, open_catalog
from peekaping_producer.config.loading import load_settings
from peekaping_producer.errors import ConfigurationError, Unavailable
from peekaping_producer.model.ids import is_monitor_id
from peekaping_producer.model.monitor import MonitorId

_WITHIN_S = 2.0
_AGAIN_AFTER_S = 10.0
"""A database that did not answer is asked again only after this, so that `--watch` stays responsive."""


class Names:
    """Looks up names in the database of `DB_*`."""

    def __init__(self) -> None:
        """Check the settings; nothing is connected yet."""
        self.problem: str | None = None
        """Why names are not known; None if they are."""
        self._known: dict[str, str] = {}
        self._catalog: Catalog | None = None
        self._next_s = 0.0
        try:
            self._catalog = open_catalog(load_settings(), connections=1, timeout_s=_WITHIN_S)
        except ConfigurationError as error:
            unset = any(problem.startswith("DB_TYPE is not set") for problem in error.problems)
            self.problem = "DB_* is not set" if unset else "; ".join(error.problems)

    async def of(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the known names of these monitors, within 2 seconds."""
        wanted = [MonitorId(id_) for id_ in dict.fromkeys(ids) if is_monitor_id(id_)]
        if self._catalog and wanted and time.monotonic() >= self._next_s:
            try:
                self._known = {str(id_): name for id_, name in (await self._catalog.names(wanted)).items()}
                self.problem = None
            except Unavailable as error:
                self._fail(error.reason)
            except ValueError as error:  # by pymongo, for a user or password that it cannot send
                self._fail(str(error))
        return self._known

    def _fail(self, problem: str) -> None:
        self.problem = problem
        self._next_s = time.monotonic() + _AGAIN_AFTER_S

    async def close(self) -> None:
        """Close all connections."""
        if self._catalog:
            await self._catalog.close()
