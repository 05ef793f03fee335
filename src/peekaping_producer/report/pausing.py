"""A pause of all checks in words, and how commands and the page begin and end one."""

from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.model.ids import is_go_node
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.report.format import instant, printable_name, span
from peekaping_producer.report.status_values import PauseStatus
from peekaping_producer.schedule.pause import Pause, Pauses
from peekaping_producer.schedule.view import Place, ScheduleView
from peekaping_producer.timing import Timing

RESUME = "wait, or end the pause with `peekaping-producer resume`"
_GO_PRODUCER = "a Go producer runs too: it ignores the pause, and keeps checking"
_NOT_PAUSED = "checks were not paused"


class Paused(Struct, frozen=True):
    """What became of a `pause`, as `--json` prints it."""

    pause: PauseStatus
    replaced: PauseStatus | None
    """The pause that it replaces; null if checks were not paused."""
    go_producer: bool
    """Whether a Go producer runs beside ours, which ignores the pause."""

    def text(self) -> list[str]:
        """Return the lines that are printed without `--json`."""
        replaced = [f"this replaces a pause until {self.replaced.until}"] if self.replaced else []
        return [pause_text(self.pause), *replaced, *([_GO_PRODUCER] if self.go_producer else [])]


class Resumed(Struct, frozen=True):
    """What became of a `resume`, as `--json` prints it."""

    ended: PauseStatus | None
    """The pause that was ended; null if checks were not paused."""

    def text(self) -> list[str]:
        """Return the lines that are printed without `--json`."""
        return [
            f"checks have resumed; the pause would have lasted until {self.ended.until}" if self.ended else _NOT_PAUSED
        ]


async def pause_checks(redis: Redis, timing: Timing, for_ms: int, reason: str, by: str) -> Paused:
    """Pause all checks, or set another end to the pause. Raises Unavailable if Redis does not answer."""
    pause, before = await Pauses(redis, timing.redis_timeout_s).begin(for_ms, reason, by)
    place = await ScheduleView(redis, timing.redis_timeout_s).place_of(MonitorId(""))
    go_producer = place.go_seen or (place.leader is not None and is_go_node(place.leader))
    return Paused(
        _shown(pause, place.now_ms), _shown(before, place.now_ms) if before else None, go_producer=go_producer
    )


async def resume_checks(redis: Redis, timing: Timing) -> Resumed:
    """End the pause, if there is one. Raises Unavailable if Redis does not answer."""
    ended = await Pauses(redis, timing.redis_timeout_s).end()
    place = await ScheduleView(redis, timing.redis_timeout_s).place_of(MonitorId(""))
    return Resumed(_shown(ended, place.now_ms) if ended else None)


def pause_status(place: Place) -> PauseStatus | None:
    """Return the pause that was read, as it is shown; None if checks are not paused."""
    return _shown(place.pause, place.now_ms) if place.pause else None


def pause_text(pause: PauseStatus) -> str:
    """Return a pause in one line."""
    by = f" by {pause.by}" if pause.by else ""
    return f"checks are paused until {pause.until} ({span(pause.left_s)} left){by}, because: {pause.reason}"


def _shown(pause: Pause, now_ms: int) -> PauseStatus:
    return PauseStatus(
        since=instant(pause.since_ms),
        until=instant(pause.until_ms),
        left_s=max(0.0, round((pause.until_ms - now_ms) / 1000, 1)),
        reason=printable_name(pause.reason),
        by=printable_name(pause.by),
    )
