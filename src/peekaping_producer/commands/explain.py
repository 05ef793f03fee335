"""`explain`: why a monitor is or is not checked, in plain words."""

import asyncio

from peekaping_producer.commands.connect import connected_redis, opened_catalog
from peekaping_producer.config.settings import Settings
from peekaping_producer.errors import Unavailable
from peekaping_producer.report.explain import Explanation, explanation
from peekaping_producer.report.findings import Findings, look_up, read_monitor
from peekaping_producer.report.resolve import Target, id_of
from peekaping_producer.timing import Timing


def explain(settings: Settings, argument: str) -> Explanation:
    """Explain the monitor of this id or name. Raises ConfigurationError, and Unavailable if Redis does not answer."""
    return explanation(asyncio.run(_look_up(settings, argument)), settings)


async def _look_up(settings: Settings, argument: str) -> Findings:
    """Look up a monitor, without its row if the database does not answer."""
    timing = Timing()
    async with connected_redis(settings, timing) as redis:
        async with opened_catalog(settings, timing) as catalog:
            try:
                await catalog.check()
                found = await read_monitor(catalog, argument)
            except Unavailable as error:
                found = Target(argument, id_of(argument, catalog)), error
        return await look_up(redis, timing, *found)
