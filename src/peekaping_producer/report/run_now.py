"""Makes monitors due at once, without changing their slots, for `run-now` and the page."""

from collections.abc import Iterator, Sequence

from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.catalog.catalog import Catalog
from peekaping_producer.fleet.registry import Registry
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.report.alive import NOT_RUNNING, is_running
from peekaping_producer.report.format import printable_name
from peekaping_producer.report.pausing import pause_status, pause_text
from peekaping_producer.report.resolve import Target, resolve
from peekaping_producer.report.status_values import PauseStatus
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.schedule.view import ScheduleView
from peekaping_producer.timing import Timing


class Result(Struct, frozen=True):
    """The result for one argument."""

    argument: str
    monitor_id: str | None
    """null if the argument means no monitor, or several."""
    due: bool
    """Whether its check is due now."""
    result: str
    """In words."""
    matches: list[str]
    """The ids of an ambiguous name."""


class RunNow(Struct, frozen=True):
    """All that `run-now` reports, as `--json` prints it."""

    running: bool
    """Whether a producer runs at all, ours or Go's."""
    pause: PauseStatus | None
    """null if checks are not paused; otherwise they are made when the pause ends."""
    monitors: list[Result]

    @property
    def done(self) -> bool:
        """Whether all checks are due, a producer runs, and checks are not paused."""
        return self.running and not self.pause and all(result.due for result in self.monitors)

    def text(self) -> Iterator[str]:
        """Return the lines that are printed without `--json`."""
        for one in self.monitors:
            by_name = one.monitor_id and one.monitor_id != one.argument.lower()
            label = f"{one.argument} ({one.monitor_id})" if by_name else one.monitor_id or one.argument
            yield f"{label}: {one.result}"
            yield from (f"  {match}" for match in one.matches)
        if not self.running:
            yield NOT_RUNNING
        if self.pause:
            yield f"{pause_text(self.pause)}; what is due is checked when the pause ends"


async def make_due(redis: Redis, timing: Timing, catalog: Catalog, arguments: Sequence[str]) -> RunNow:
    """Make the monitors of these ids or names due at once. Raises Unavailable."""
    targets = [await resolve(argument, catalog) for argument in arguments]
    # Each monitor once, even if several arguments mean it.
    distinct = list({one.monitor_id or one.argument: one for one in targets}.values())
    refused = await _refused([one.monitor_id for one in distinct if one.monitor_id], catalog)
    wanted = [one.monitor_id for one in distinct if one.monitor_id and one.monitor_id not in refused]
    schedule = Schedule(redis, timing)
    due = dict(zip(wanted, await schedule.run_now(wanted), strict=True)) if wanted else {}
    place = await ScheduleView(redis, timing.redis_timeout_s).place_of(MonitorId(""))
    running = is_running(await Registry(redis, timing).seen(), place)
    return RunNow(running, pause_status(place), [_result(one, refused, due) for one in distinct])


async def _refused(ids: Sequence[MonitorId], catalog: Catalog) -> dict[MonitorId, str]:
    """Return those that are not checked, with the reason."""
    reading = await catalog.read(ids)
    refused: dict[MonitorId, str] = {}
    for id_ in ids:
        if id_ in reading.invalid:
            refused[id_] = f"skipped as invalid, {reading.invalid[id_]}"
        elif id_ not in reading.found:
            refused[id_] = "unknown, the database has no such monitor"
        elif not reading.found[id_].monitor.active:
            refused[id_] = "not active, activate it first"
    return refused


def _result(one: Target, refused: dict[MonitorId, str], due: dict[MonitorId, bool]) -> Result:
    argument, id_ = printable_name(one.argument.strip()), one.monitor_id
    if id_ is None:
        matches = [match.id for match in one.matches]
        return Result(argument, None, due=False, result=str(one.problem), matches=[*matches])
    if id_ in refused:
        return Result(argument, id_, due=False, result=refused[id_], matches=[])
    result = "due now" if due[id_] else "being handled right now"
    return Result(argument, id_, due=True, result=result, matches=[])
