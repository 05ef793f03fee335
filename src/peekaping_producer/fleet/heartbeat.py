"""The loop by which a node says that it is alive, what it does, and which monitors it skips as invalid."""

import msgspec

from peekaping_producer import __version__
from peekaping_producer.clock import now_utc, rfc3339
from peekaping_producer.errors import Unavailable
from peekaping_producer.fleet.invalid_monitors import Skipped
from peekaping_producer.fleet.registry import NodeInfo, Registry
from peekaping_producer.node.node import Node
from peekaping_producer.schedule.orders import PLACED


async def presence_loop(node: Node, registry: Registry, skipped: Skipped, concurrency: int) -> None:
    """Register every few seconds, and when leadership changes, until it is time to stop; then leave."""
    started = rfc3339(now_utc())
    while not node.stop:
        try:
            await registry.register(_info(node, started, concurrency))
            await _list_skipped(node, skipped)
        except Unavailable as error:
            node.failed(error)
        await node.presence.changed.within(node.timing.presence_every_s)
    try:
        await registry.leave(node.id)
    except Unavailable as error:
        node.failed(error)  # the record goes by itself


async def _list_skipped(node: Node, skipped: Skipped) -> None:
    found = node.presence.take_skipped()
    if not found:
        return
    try:
        await skipped.note(found)
    except Unavailable:
        node.presence.skipped(found)
        raise


def _info(node: Node, started: str, concurrency: int) -> NodeInfo:
    lateness_p50_ms, lateness_p99_ms = node.tally.lateness_ms
    checks_from_copy, oldest_copy_s = node.database.from_cache
    swept = node.presence.swept
    return NodeInfo(
        id=node.id,
        version=__version__,
        started=started,
        leader=node.presence.leading,
        concurrency=concurrency,
        checks=sum(node.tally.ever[outcome] for outcome in PLACED),
        lateness_p50_ms=lateness_p50_ms,
        lateness_p99_ms=lateness_p99_ms,
        database_away=node.database.reason,
        checks_from_copy=checks_from_copy,
        oldest_copy_s=round(oldest_copy_s, 1),
        swept=None if swept is None else msgspec.to_builtins(swept),
    )
