"""`run-now`: makes monitors due at once, without changing their slots."""

import asyncio
from collections.abc import Sequence

from peekaping_producer.commands.connect import connected_catalog, connected_redis
from peekaping_producer.config.settings import Settings
from peekaping_producer.report.run_now import RunNow, make_due
from peekaping_producer.timing import Timing


def run_now(settings: Settings, arguments: Sequence[str]) -> RunNow:
    """Make the monitors of these ids or names due at once. Raises ConfigurationError and Unavailable."""
    return asyncio.run(_run_now(settings, arguments))


async def _run_now(settings: Settings, arguments: Sequence[str]) -> RunNow:
    timing = Timing()
    async with connected_redis(settings, timing) as redis, connected_catalog(settings, timing) as catalog:
        return await make_due(redis, timing, catalog, arguments)
