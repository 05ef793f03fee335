"""`run-now`: checks at once, without a change of the monitors' own slots."""

import asyncio
from collections.abc import Sequence

from peekaping_producer.commands.reach import reached_catalog, reached_redis
from peekaping_producer.config import Settings
from peekaping_producer.monitor import MonitorId
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.timing import Timing


def run_now(settings: Settings, ids: Sequence[str]) -> tuple[list[str], bool]:
    """Make these monitors due at once; return a line for each, and whether all of them are.

    Raises ConfigurationError and Unavailable.
    """
    return asyncio.run(_run_now(settings, [MonitorId(id_.strip().lower()) for id_ in ids]))


async def _run_now(settings: Settings, ids: list[MonitorId]) -> tuple[list[str], bool]:
    timing = Timing()
    async with reached_redis(settings, timing) as redis, reached_catalog(settings, timing) as catalog:
        reading = await catalog.read(ids)
        refused = {id_: reading.aside[id_] for id_ in ids if id_ in reading.aside}
        for id_ in ids:
            if id_ not in refused and id_ not in reading.found:
                refused[id_] = "unknown, the database has no such monitor"
            elif id_ in reading.found and not reading.found[id_].monitor.active:
                refused[id_] = "not active, activate it first"
        wanted = [id_ for id_ in dict.fromkeys(ids) if id_ not in refused]
        due = await Schedule(redis, timing).run_now(wanted) if wanted else []
    lines = [
        f"{id_}: due now" if at_once else f"{id_}: being handled this very moment"
        for id_, at_once in zip(wanted, due, strict=True)
    ]
    return [*lines, *(f"{id_}: {reason}" for id_, reason in refused.items())], not refused
