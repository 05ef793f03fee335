"""The loop that compares the cache with the number of monitors, and warns where it can't hold them all."""

from peekaping_producer.catalog.last_known import MB, LastKnown
from peekaping_producer.errors import Unavailable
from peekaping_producer.node.node import Node
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.schedule.view import ScheduleView

_FILLING = 4
"""A cache that is filled to less than one part in so many holds all, as far as can be told: Redis is not asked."""


async def cache_loop(node: Node, view: ScheduleView, cache: LastKnown, most_mb: int) -> None:
    """Tell the cache how many monitors there are while it fills up; warn once that it is too small."""
    monitors, warned = 0, False
    while not await node.stop.within(node.timing.cache_watch_s):
        if cache.size_bytes * _FILLING < most_mb * MB:
            continue
        try:
            overview = await view.overview()
        except Unavailable as error:
            node.redis_failed(error)
            continue
        counted_before, monitors = monitors, overview.due + overview.leased
        cache.expect(monitors)
        # While a first sweep goes on, the number says too little.
        if cache.too_small and not warned and monitors == counted_before:
            warned = True
            node.log.warning(
                LogEvent.CACHE_TOO_SMALL,
                cache_mb=most_mb,
                needed_mb=cache.needed_mb(monitors),
                monitors=monitors,
                cached=len(cache),
            )
