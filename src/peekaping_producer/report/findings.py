"""What is looked up about one monitor, and the verdict on it."""

from enum import StrEnum

from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.asynq.queue import QueueState, TaskState, queue_state, task_state
from peekaping_producer.catalog.catalog import Catalog
from peekaping_producer.catalog.reading import Reading
from peekaping_producer.errors import Unavailable
from peekaping_producer.fleet.registry import Registry
from peekaping_producer.model.monitor import MonitorId, Snapshot
from peekaping_producer.report.alive import NOT_RUNNING, is_running
from peekaping_producer.report.pausing import pause_status, pause_text
from peekaping_producer.report.resolve import Target, id_of, resolve
from peekaping_producer.report.status_values import PauseStatus
from peekaping_producer.schedule.view import Place, ScheduleView
from peekaping_producer.timing import Timing


class Verdict(StrEnum):
    """Whether a monitor is checked, or why not."""

    CHECKED = "checked"
    NOT_RUNNING = "not_running"
    """It is active and valid, but no producer runs."""
    PAUSED = "paused"
    """It would be checked, but all checks are paused."""
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

    target: Target
    reading: Reading | Unavailable | None
    """None if the argument means no monitor."""
    place: Place
    task: TaskState | None
    queue: QueueState
    running: bool
    """Whether a producer runs at all."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The monitor's row, if it is valid."""
        id_ = self.target.monitor_id
        return self.reading.found.get(id_) if isinstance(self.reading, Reading) and id_ else None

    @property
    def pause(self) -> PauseStatus | None:
        """The pause of all checks, if there is one."""
        return pause_status(self.place)

    @property
    def retrying_every_s(self) -> int | None:
        """The monitor's retry interval, if it is in force."""
        id_ = self.target.monitor_id
        retry = self.reading.retries.get(id_) if isinstance(self.reading, Reading) and id_ else None
        return retry.seconds if retry and retry.pending else None

    @property
    def verdict(self) -> Verdict:
        """Whether the monitor is checked, or why not."""
        id_ = self.target.monitor_id
        if isinstance(self.reading, Unavailable):
            return Verdict.UNREADABLE
        if self.reading is None or id_ is None:
            return Verdict.AMBIGUOUS if self.target.matches else Verdict.NO_MONITOR
        if id_ in self.reading.invalid:
            return Verdict.INVALID
        if self.snapshot is None:
            return Verdict.UNKNOWN
        if not self.snapshot.monitor.active:
            return Verdict.INACTIVE
        with_producer = Verdict.PAUSED if self.place.pause else Verdict.CHECKED
        return with_producer if self.running else Verdict.NOT_RUNNING

    @property
    def reason(self) -> str | None:
        """Why the monitor is not checked, in words; None if it is."""
        if self.verdict is Verdict.INVALID and isinstance(self.reading, Reading):
            return f"skipped as invalid, so it is not checked: {', '.join(self.reading.invalid.values())}"
        reasons = {
            Verdict.NOT_RUNNING: NOT_RUNNING,
            Verdict.PAUSED: pause_text(self.pause) if self.pause else None,
            Verdict.INACTIVE: "NOT ACTIVE, so it is not checked",
            Verdict.UNKNOWN: "unknown: the database has no such monitor",
            Verdict.UNREADABLE: f"cannot be read: {self.reading}",
        }
        return reasons.get(self.verdict, self.target.problem)


async def read_monitor(catalog: Catalog, argument: str) -> tuple[Target, Reading | Unavailable | None]:
    """Return the monitor that an argument means, and its row or why the database did not answer."""
    target = Target(argument, id_of(argument, catalog))
    try:
        target = await resolve(argument, catalog)
        return target, await catalog.read([target.monitor_id]) if target.monitor_id else None
    except Unavailable as error:
        return target, error


async def look_up(redis: Redis, timing: Timing, target: Target, reading: Reading | Unavailable | None) -> Findings:
    """Look up the rest about a monitor. Raises Unavailable if Redis does not answer."""
    id_ = target.monitor_id or MonitorId("")
    place = await ScheduleView(redis, timing.redis_timeout_s).place_of(id_)
    return Findings(
        target,
        reading,
        place,
        await task_state(redis, id_, timing.redis_timeout_s) if id_ else None,
        await queue_state(redis, timing.redis_timeout_s),
        is_running(await Registry(redis, timing).seen(), place),
    )
