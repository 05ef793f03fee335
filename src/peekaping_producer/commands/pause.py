"""`pause` and `resume`: stop all checks for a while, and resume them."""

import asyncio
import getpass
import os
import socket

from peekaping_producer.commands.connect import connected_redis
from peekaping_producer.config.redis_settings import RedisSettings
from peekaping_producer.errors import ConfigurationError
from peekaping_producer.report.pausing import Paused, Resumed, pause_checks, resume_checks
from peekaping_producer.schedule.pause import length_ms, reason_from
from peekaping_producer.timing import Timing


def pause(settings: RedisSettings, length: str, reason: str) -> Paused:
    """Pause all checks. Raises ConfigurationError, also for a wrong length or reason, and Unavailable."""
    try:
        for_ms, why = length_ms(length), reason_from(reason)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    return asyncio.run(_pause(settings, for_ms, why))


def resume(settings: RedisSettings) -> Resumed:
    """End the pause, if there is one. Raises ConfigurationError and Unavailable."""
    return asyncio.run(_resume(settings))


async def _pause(settings: RedisSettings, for_ms: int, reason: str) -> Paused:
    timing = Timing()
    async with connected_redis(settings, timing) as redis:
        return await pause_checks(redis, timing, for_ms, reason, _who())


async def _resume(settings: RedisSettings) -> Resumed:
    timing = Timing()
    async with connected_redis(settings, timing) as redis:
        return await resume_checks(redis, timing)


def _who() -> str:
    """Return the user and host for others to see; a container's user may have no name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
