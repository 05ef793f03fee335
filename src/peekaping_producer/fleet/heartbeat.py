"""The loop in which a node reports that it is alive, what it does, and which monitors it skips as invalid."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from peekaping_producer import __version__
from peekaping_producer.clock import now_utc, rfc3339
from peekaping_producer.errors import Unavailable
from peekaping_producer.fleet.invalid_monitors import InvalidMonitors
from peekaping_producer.fleet.registry import NodeInfo, Registry
from peekaping_producer.node.node import Node
from peekaping_producer.observe.outcomes import PLACED


async def heartbeat_loop(node: Node, registry: Registry, invalid: InvalidMonitors, concurrency: int) -> None:
    """Register every few seconds, and when something important changes, until it is time to stop."""
    started = rfc3339(now_utc())
    while not node.stop:
        try:
            await registry.register(_info(node, started, concurrency))
            await _list_invalid(node, invalid)
        except Unavailable as error:
            node.redis_failed(error)
        await node.status.changed.within(node.timing.heartbeat_every_s)
    try:
        await registry.set_inactive(_info(node, started, concurrency))
    except Unavailable as error:
        node.redis_failed(error)  # the record expires


async def check_database(check: Callable[[], Awaitable[None]], node: Node, registry: Registry) -> None:
    """Check the database at the start; as long as it is unavailable, let the other nodes know of this one."""
    try:
        await check()
    except Unavailable as error:
        down_s = round(node.database_outage.ongoing_s, 1)
        info = NodeInfo(node.id, __version__, database_problem=error.reason, database_down_s=down_s, starting=True)
        with suppress(Unavailable):  # Redis is checked again when the database is there
            await registry.set_inactive(info)
        raise


async def _list_invalid(node: Node, invalid: InvalidMonitors) -> None:
    found = node.status.take_invalid()
    if not found:
        return
    try:
        await invalid.note(found)
    except Unavailable:
        node.status.note_invalid(found)
        raise


def _info(node: Node, started: str, concurrency: int) -> NodeInfo:
    lateness_p50_ms, lateness_p99_ms = node.tally.lateness_ms
    checks_from_cache, cache_age_s = node.database_outage.from_cache
    swept = node.status.swept
    return NodeInfo(
        id=node.id,
        version=__version__,
        started=started,
        leader=node.status.leading,
        concurrency=concurrency,
        checks=sum(node.tally.total[outcome] for outcome in PLACED),
        lateness_p50_ms=lateness_p50_ms,
        lateness_p99_ms=lateness_p99_ms,
        database_problem=node.database_outage.reason,
        checks_from_cache=checks_from_cache,
        cache_age_s=round(cache_age_s, 1),
        swept=None if swept is None else msgspec.to_builtins(swept),
        claimed_ago_s=_rounded(node.measures.claimed_ago_s),
        database_down_s=round(node.database_outage.ongoing_s, 1),
        recent=node.history.recent(),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
