"""`status --check`: the status as one line and an exit code, as Nagios and its relatives expect from a check."""

import asyncio
from enum import IntEnum

from peekaping_producer.commands.connect import connected_redis
from peekaping_producer.config.loading import load_redis_settings
from peekaping_producer.config.redis_settings import RedisSettings
from peekaping_producer.errors import ConfigurationError, Unavailable
from peekaping_producer.redisdb.client import answered
from peekaping_producer.report.format import count, printable_name
from peekaping_producer.report.status import read_status
from peekaping_producer.report.status_values import Status
from peekaping_producer.timing import Timing

_WITHIN_S = 8.0
"""Monitoring systems usually give a check 10 s."""


class State(IntEnum):
    """The state of a service, by the exit code that means it."""

    OK = 0
    WARNING = 1
    """Monitors are checked, but something needs attention; or checks are paused, which ends by itself."""
    CRITICAL = 2
    """Some monitors are not checked, or it is not known whether they are."""


def status_check() -> int:
    """Print one line and return the exit code. It never raises: wrong settings and no answer are critical."""
    try:
        status = asyncio.run(_read(load_redis_settings()))
        state, text = state_of(status), _summary(status)
    except ConfigurationError as error:
        state, text = State.CRITICAL, "; ".join(error.problems)
    except Unavailable as error:
        state, text = State.CRITICAL, str(error)
    print(f"PEEKAPING {state.name}: {text}")  # noqa: T201 - the output
    return state


async def _read(settings: RedisSettings) -> Status:
    timing = Timing()
    async with answered(_WITHIN_S), connected_redis(settings, timing) as redis:
        return await read_status(redis, timing)


def state_of(status: Status) -> State:
    """Return how serious the trouble is."""
    queue = status.queue
    if not status.running or status.overdue.count or queue.paused or not queue.workers:
        return State.CRITICAL
    return State.WARNING if status.trouble else State.OK


def _summary(status: Status) -> str:
    """Return the trouble, or else what runs; and after a bar the figures, which may be drawn over time."""
    alive = sum(not node.gone for node in status.nodes) + status.leader_is_go
    runs = (
        count(status.scheduled, "monitor", "monitors"),
        count(alive, "producer", "producers"),
        count(status.queue.workers, "worker process", "worker processes"),
    )
    # A bar would begin the figures.
    text = printable_name("; ".join(status.trouble) or ", ".join(runs)).replace("|", "/")
    figures = {
        "monitors": status.scheduled,
        "overdue": status.overdue.count,
        "invalid": status.invalid.count,
        "pending": status.queue.pending,
        "workers": status.queue.workers,
        "producers": alive,
    }
    return f"{text} | {' '.join(f'{name}={number}' for name, number in figures.items())}"
