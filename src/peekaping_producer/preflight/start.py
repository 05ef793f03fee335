"""The loop that logs, once in the life of a node, what `check` would warn about."""

from collections.abc import Iterable

from redis.asyncio import Redis

from peekaping_producer.catalog.catalog import Catalog
from peekaping_producer.config.settings import Settings
from peekaping_producer.errors import Unavailable
from peekaping_producer.node.node import Node
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.preflight.database import database_findings
from peekaping_producer.preflight.deployment import producer_findings, read_producers
from peekaping_producer.preflight.finding import Finding, Level
from peekaping_producer.preflight.redis_server import read_redis, redis_findings

_DONE_S = 86_400.0


async def warnings_loop(node: Node, redis: Redis, catalog: Catalog, settings: Settings) -> None:
    """Log the warnings, then wait until it is time to stop.

    What the leader's loops log is left out: the state of the queue, and that no monitor is active.
    """
    if not await node.stop.within(node.timing.warn_after_s):
        try:
            async with node.stop.cutting_short():
                _log(node, redis_findings(await read_redis(redis, node.timing.redis_timeout_s)))
                producers = await read_producers(redis, node.timing, without=node.id)
                mode, retry_interval = settings.producer_schedule, settings.producer_retry_interval
                _log(node, producer_findings(producers, mode, retry_interval))
                _log(node, database_findings(await catalog.facts()))
        except Unavailable:
            pass  # other loops need the same system, and log it
    while not node.stop:
        await node.stop.within(_DONE_S)


def _log(node: Node, findings: Iterable[Finding]) -> None:
    for found in findings:
        if found.level is Level.WARNING:
            node.log.warning(LogEvent.SETUP_WARNING, area=found.area, what=found.what, to_do=found.to_do)
