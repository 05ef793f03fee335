"""The process as a whole: connects the parts, runs the loops, and stops them in order."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext

from redis.asyncio import Redis

from peekaping_producer import __version__
from peekaping_producer.catalog.catalog import Catalog, open_catalog
from peekaping_producer.catalog.last_known import MB, LastKnown
from peekaping_producer.config.fields import Switch
from peekaping_producer.config.loading import masked
from peekaping_producer.config.settings import Settings
from peekaping_producer.dispatch.cache_watch import cache_loop
from peekaping_producer.dispatch.dispatcher import Dispatcher
from peekaping_producer.dispatch.missed import MissedChecks
from peekaping_producer.dispatch.reclaim import reclaim_loop
from peekaping_producer.dispatch.source import Source
from peekaping_producer.errors import Unavailable
from peekaping_producer.fleet.heartbeat import check_database, heartbeat_loop
from peekaping_producer.fleet.invalid_monitors import InvalidMonitors
from peekaping_producer.fleet.registry import Registry
from peekaping_producer.fleet.signals import signals_loop
from peekaping_producer.fleet.summary import summary_loop, write_summary
from peekaping_producer.leader.changes import ChangeReader
from peekaping_producer.leader.duty import Duty
from peekaping_producer.leader.election import Election
from peekaping_producer.leader.events import EventReader
from peekaping_producer.leader.invalid_watch import InvalidWatch
from peekaping_producer.leader.queue_watch import QueueWatch
from peekaping_producer.leader.status_events import StatusReader
from peekaping_producer.leader.sweep import Sweeper
from peekaping_producer.leader.sync import Sync
from peekaping_producer.leader.term import Terms
from peekaping_producer.node.alive_file import AliveFile
from peekaping_producer.node.guard import kept_running
from peekaping_producer.node.node import Node, make_node
from peekaping_producer.node.readiness import until_ready
from peekaping_producer.node.redis_watch import RedisWatch
from peekaping_producer.node.service_manager import Watchdog
from peekaping_producer.node.stop import Stop
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.log import Logger
from peekaping_producer.preflight.start import warnings_loop
from peekaping_producer.redisdb.client import open_redis
from peekaping_producer.schedule.requirements import check_redis, check_rights
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.schedule.view import ScheduleView
from peekaping_producer.timing import Timing
from peekaping_producer.tracing.start import tracing


async def produce(
    settings: Settings, log: Logger, timing: Timing, stop: Stop | None = None, node_id: str | None = None
) -> None:
    """Connect, run the loops until it is time to stop, settle what is claimed, close.

    Raises ConfigurationError for what only a person can fix.
    """
    node = make_node(log, timing, Stop() if stop is None else stop, settings.producer_schedule, node_id)
    node.log.info(LogEvent.PRODUCER_STARTING, version=__version__)
    node.log.info(LogEvent.SETTINGS_LOADED, **masked(settings))
    redis = open_redis(settings, timing.redis_timeout_s)
    catalog = open_catalog(
        settings,
        connections=settings.producer_concurrency,
        timeout_s=timing.read_deadline_s,
        scan_timeout_s=timing.scan_deadline_s,
    )
    cache = LastKnown(settings.producer_cache_mb * MB)
    try:
        async with _served(settings, node, redis, cache), tracing(node):
            with _alive_file(settings.producer_alive_file, node):
                await until_ready(lambda: check_redis(redis, settings, timing.redis_timeout_s), node.redis_outage, node)
                await until_ready(lambda: check_rights(redis, timing.redis_timeout_s), node.redis_outage, node)
                registry = Registry(redis, node.timing)
                await until_ready(lambda: check_database(catalog.check, node, registry), node.database_outage, node)
                if not node.stop:
                    node.liveness.on_turn(Watchdog().feed)
                    await _run_loops(settings, node, redis, catalog, cache, registry)
    finally:
        await catalog.close()
        await redis.aclose()
    node.log.info(LogEvent.PRODUCER_STOPPED)


@contextmanager
def _alive_file(path: str | None, node: Node) -> Iterator[None]:
    """Write the file while the node is alive, for the duration of the block; nothing if no path is set."""
    if path is None:
        yield
        return

    def log_failure(reason: str) -> None:
        node.log.warning(LogEvent.ALIVE_FILE_FAILED, file=path, reason=reason)

    file = AliveFile(path, log_failure)
    node.liveness.on_turn(file.write)
    try:
        yield
    finally:
        file.remove()


def _served(settings: Settings, node: Node, redis: Redis, cache: LastKnown) -> AbstractAsyncContextManager[None]:
    """Serve probes, metrics and the page for the duration of the block, if a port is set."""
    if settings.producer_http_port is None:
        return nullcontext()
    from peekaping_producer.web.server import serving  # noqa: PLC0415 - takes a while, and most nodes need none of it

    return serving(settings, settings.producer_http_port, node, redis, cache)


async def _run_loops(
    settings: Settings, node: Node, redis: Redis, catalog: Catalog, cache: LastKnown, registry: Registry
) -> None:
    """Run every loop of a node until it is time to stop."""
    schedule, view = Schedule(redis, node.timing), ScheduleView(redis, node.timing.redis_timeout_s)
    source = Source(node, catalog, cache)
    concurrency = settings.producer_concurrency
    missed = MissedChecks(node, await _no_node_since_s(registry))
    dispatcher = Dispatcher(node, schedule, source, missed, connections=catalog.connections, server_zone=settings.tz)
    watch = RedisWatch(node, redis, schedule)
    vacant, sync, invalid = node.stop.bell(), Sync(node, schedule, catalog, cache), InvalidMonitors(redis, node.timing)
    duties = _duties(node, redis, schedule, sync, InvalidWatch(node, invalid, catalog, settings.tz))
    if settings.producer_retry_interval is Switch.ON:
        duties += StatusReader(node, redis, sync).duties()
    election = Election(node, Terms(redis, node.id, node.timing), vacant, duties, source.open_breaker)
    async with asyncio.TaskGroup() as loops:

        def keep(name: str, loop: Callable[[], Awaitable[None]]) -> None:
            loops.create_task(kept_running(node, name, loop, node.stop, LogEvent.LOOP_FAILED), name=name)

        keep("signals", lambda: signals_loop(node, redis, vacant))
        keep("election", election.loop)
        keep("heartbeat", lambda: heartbeat_loop(node, registry, invalid, concurrency))
        keep("reclaim", lambda: reclaim_loop(node, schedule))
        keep("summary", lambda: summary_loop(node, view))
        keep("probe", source.probe_loop)
        keep("cache", lambda: cache_loop(node, view, cache, settings.producer_cache_mb))
        keep("connections", watch.connections_loop)
        keep("keys", watch.keys_loop)
        keep("reminders", watch.reminder_loop)
        keep("warnings", lambda: warnings_loop(node, redis, catalog, settings))
        for _ in range(concurrency):
            keep("dispatch", dispatcher.batch_loop)
    await write_summary(node, view)


async def _no_node_since_s(registry: Registry) -> float:
    """Return since when no other node has been running, by the monotonic clock; if one still is, that is now."""
    now_s = time.monotonic()
    try:
        return now_s - await registry.unseen_s()
    except Unavailable:
        return now_s  # not known: others may run


def _duties(node: Node, redis: Redis, schedule: Schedule, sync: Sync, invalid_watch: InvalidWatch) -> list[Duty]:
    return [
        *EventReader(node, redis, sync, node.sweep_wanted).duties(),
        ChangeReader(node, sync).duty(),
        Sweeper(node, schedule, sync, node.sweep_wanted).duty(),
        QueueWatch(node, redis).duty(),
        invalid_watch.duty(),
    ]
