"""The loop that compares the cache with the number of monitors, and warns if it can't hold them all."""

from peekaping_producer.catalog.last_known import MB, LastKnown
from peekaping_producer.errors import Unavailable
from peekaping_producer.node.node import Node
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.schedule.view import ScheduleView

_SURELY_ENOUGH = 0.25
"""While no fuller than this, the cache counts as large enough, and the monitors are not counted."""


async def cache_loop(node: Node, view: ScheduleView, cache: LastKnown, most_mb: int) -> None:
    """Count the monitors for the cache while it is filling up; warn once if it is too small."""
    monitors, warned = 0, False
    while not await node.stop.within(node.timing.cache_watch_s):
        if cache.size_bytes < _SURELY_ENOUGH * most_mb * MB:
            continue
        try:
            overview = await view.overview()
        except Unavailable as error:
            node.redis_failed(error)
            continue
        counted_before, monitors = monitors, overview.due + overview.leased
        cache.expect(monitors)
        # While the first sweep goes on, the number still grows.
        if cache.too_small and not warned and monitors == counted_before:
            warned = True
            node.log.warning(
                LogEvent.CACHE_TOO_SMALL,
                cache_mb=most_mb,
                needed_mb=cache.needed_mb(monitors),
                monitors=monitors,
                cached=len(cache),
            )
