"""What `explain` looks up about one monitor, and the verdict on it."""

from enum import StrEnum

from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.asynq.queue import QueueState, TaskState, queue_state, task_state
from peekaping_producer.catalog.reading import Reading
from peekaping_producer.commands.alive import NOT_RUNNING, is_running
from peekaping_producer.commands.connect import opened_catalog, reached_redis
from peekaping_producer.commands.resolve import Meant, id_of, meant_by
from peekaping_producer.config.settings import Settings
from peekaping_producer.errors import Unavailable
from peekaping_producer.fleet.registry import Registry
from peekaping_producer.model.monitor import MonitorId, Snapshot
from peekaping_producer.schedule.view import Place, ScheduleView
from peekaping_producer.timing import Timing


class Verdict(StrEnum):
    """Whether a monitor is checked, or why not."""

    CHECKED = "checked"
    NOT_RUNNING = "not_running"
    """It is active and valid, but no producer runs."""
    INACTIVE = "inactive"
    INVALID = "invalid"
    UNKNOWN = "unknown"
    """The database has no such monitor."""
    UNREADABLE = "unreadable"
    """The database does not answer."""
    NO_MONITOR = "no_monitor"
    """The argument is neither an id nor a name."""
    AMBIGUOUS = "ambiguous"
    """Several monitors have this name."""


class Findings(Struct, frozen=True):
    """All that was looked up about one monitor."""

    meant: Meant
    reading: Reading | Unavailable | None
    """None where the argument means no monitor."""
    place: Place
    task: TaskState | None
    queue: QueueState
    running: bool
    """Whether a producer runs at all."""

    @property
    def snapshot(self) -> Snapshot | None:
        """What the database holds about the monitor, where it is valid."""
        id_ = self.meant.monitor_id
        return self.reading.found.get(id_) if isinstance(self.reading, Reading) and id_ else None

    @property
    def verdict(self) -> Verdict:
        """Whether the monitor is checked, or why not."""
        id_ = self.meant.monitor_id
        if isinstance(self.reading, Unavailable):
            return Verdict.UNREADABLE
        if self.reading is None or id_ is None:
            return Verdict.AMBIGUOUS if self.meant.matches else Verdict.NO_MONITOR
        if id_ in self.reading.invalid:
            return Verdict.INVALID
        if self.snapshot is None:
            return Verdict.UNKNOWN
        if not self.snapshot.monitor.active:
            return Verdict.INACTIVE
        return Verdict.CHECKED if self.running else Verdict.NOT_RUNNING

    @property
    def reason(self) -> str | None:
        """Why the monitor is not checked, in words; None where it is."""
        if self.verdict is Verdict.INVALID and isinstance(self.reading, Reading):
            return f"skipped as invalid, so it gets no check: {', '.join(self.reading.invalid.values())}"
        reasons = {
            Verdict.NOT_RUNNING: NOT_RUNNING,
            Verdict.INACTIVE: "NOT ACTIVE, so it gets no check",
            Verdict.UNKNOWN: "unknown: the database has no such monitor",
            Verdict.UNREADABLE: f"can't be read: {self.reading}",
        }
        return reasons.get(self.verdict, self.meant.problem)


async def look_up(settings: Settings, argument: str) -> Findings:
    """Look it all up; what only the database knows is left out where it does not answer.

    Raises ConfigurationError, and Unavailable when Redis does not answer.
    """
    timing = Timing()
    async with reached_redis(settings, timing) as redis:
        meant, reading = await _read(settings, timing, argument)
        return await _look_up(redis, timing, meant, reading)


async def _read(settings: Settings, timing: Timing, argument: str) -> tuple[Meant, Reading | Unavailable | None]:
    async with opened_catalog(settings, timing) as catalog:
        meant = Meant(argument, id_of(argument, catalog))
        try:
            await catalog.check()
            meant = await meant_by(argument, catalog)
            return meant, await catalog.read([meant.monitor_id]) if meant.monitor_id else None
        except Unavailable as error:
            return meant, error


async def _look_up(redis: Redis, timing: Timing, meant: Meant, reading: Reading | Unavailable | None) -> Findings:
    id_ = meant.monitor_id or MonitorId("")
    place = await ScheduleView(redis, timing.redis_timeout_s).place_of(id_)
    return Findings(
        meant,
        reading,
        place,
        await task_state(redis, id_, timing.redis_timeout_s) if id_ else None,
        await queue_state(redis, timing.redis_timeout_s),
        is_running(await Registry(redis, timing).seen(), place),
    )
