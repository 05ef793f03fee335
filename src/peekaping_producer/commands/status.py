"""`status`: the fleet, the schedule and the queue at a glance."""

import asyncio
import signal
from contextlib import AsyncExitStack

from peekaping_producer.commands.connect import connected_redis
from peekaping_producer.commands.names import Names
from peekaping_producer.commands.screen import Screen
from peekaping_producer.config.redis_settings import RedisSettings
from peekaping_producer.errors import Unavailable
from peekaping_producer.report.status import read_status
from peekaping_producer.timing import Timing

_WATCH_EVERY_S = 1.0


def show_status(settings: RedisSettings, *, as_json: bool, watch: bool) -> bool:
    """Print the status, with `watch` every second; return whether there is no trouble.

    Raises ConfigurationError and Unavailable.
    """
    # As Ctrl-C does, so that the terminal's screen is restored.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return asyncio.run(_show(settings, as_json=as_json, watch=watch))


async def _show(settings: RedisSettings, *, as_json: bool, watch: bool) -> bool:
    timing = Timing()
    async with connected_redis(settings, timing) as redis, AsyncExitStack() as stack:
        names = Names()
        stack.push_async_callback(names.close)
        screen = stack.enter_context(Screen(as_json=as_json, watch=watch))
        while True:
            try:
                status = await read_status(redis, timing, names)
            except Unavailable as error:
                if not watch:
                    raise
                screen.show_unavailable(error)
            else:
                screen.show(status)
                if not watch:
                    return not status.trouble
            await asyncio.sleep(_WATCH_EVERY_S)
