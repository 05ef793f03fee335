"""The leader's check of the monitors that are skipped as invalid: one that was fixed leaves the list."""

from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

from peekaping_producer.catalog.catalog import Catalog
from peekaping_producer.clock import now_utc
from peekaping_producer.dispatch.plan import invalid_among
from peekaping_producer.fleet.invalid_monitors import InvalidMonitors
from peekaping_producer.leader.duty import Duty
from peekaping_producer.leader.term import Term
from peekaping_producer.model.ids import is_monitor_id
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.node.node import Node

_EMPTY_FACTOR = 3
"""An empty list is read this many times less often."""


class InvalidWatch:
    """Reads the listed monitors again: the node that found one invalid need not be the one that finds it fixed."""

    def __init__(self, node: Node, invalid: InvalidMonitors, catalog: Catalog, server_zone: ZoneInfo) -> None:
        """Take the list, the catalog, and the server's time zone, by which maintenances are judged."""
        self._server_zone = server_zone
        self._node = node
        self._invalid = invalid
        self._catalog = catalog
        self._database = node.database_outage.user()

    def duty(self) -> Duty:
        """Return the duty to check the list."""
        return Duty("invalid", self.run, self._database)

    async def run(self, term: Term) -> None:
        """Check the list until the term is over."""
        while not term.is_over:
            every_s = self._node.timing.invalid_every_s
            asked = await self.check()
            self._database.recovered(asked=asked)
            await term.ended.within(every_s if asked else every_s * _EMPTY_FACTOR)

    async def check(self) -> bool:
        """Check the list once; return whether the database was read.

        A monitor that is valid, inactive or deleted leaves the list; a new reason replaces the old one.
        """
        listed = await self._invalid.all()
        ids = [MonitorId(id_) for id_ in listed if is_monitor_id(id_)]
        reasons: dict[str, str] = {}
        size = self._node.timing.batch
        for start in range(0, len(ids), size):
            reasons |= await self._still_invalid(ids[start : start + size])
        reasons |= self._with_invalid_id(listed)
        await self._invalid.forget(id_ for id_ in listed if id_ not in reasons)
        await self._invalid.note({id_: reason for id_, reason in reasons.items() if listed[id_] != reason})
        return bool(ids)

    async def _still_invalid(self, ids: Sequence[MonitorId]) -> dict[str, str]:
        page = await self._catalog.active_of(ids)
        active = {*page.invalid, *(monitor.id for monitor in page.monitors)}
        reading = await self._catalog.read([id_ for id_ in ids if id_ in active])
        now_ms = int(now_utc().timestamp() * 1000)
        return invalid_among(reading, now_ms, self._server_zone) | page.invalid

    def _with_invalid_id(self, listed: Mapping[str, str]) -> dict[str, str]:
        """Return the listed monitors whose id is invalid, and that sweeps still find: nothing else reads their rows."""
        found = self._node.status.invalid_ids
        return {
            id_: reason for id_, reason in listed.items() if not is_monitor_id(id_) and (found is None or id_ in found)
        }
