"""Once a minute, one line that tells how the checks go."""

from peekaping_producer.errors import Unavailable
from peekaping_producer.observe.log import Logger
from peekaping_producer.observe.tally import Tally
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.stopping import Stop
from peekaping_producer.timing import Timing


async def summary_loop(schedule: Schedule, tally: Tally, log: Logger, stop: Stop, timing: Timing) -> None:
    """Write a summary every minute until it is time to stop, and a last one then."""
    while not await stop.within(timing.summary_every_s):
        await _write(schedule, tally, log)
    await _write(schedule, tally, log)


async def _write(schedule: Schedule, tally: Tally, log: Logger) -> None:
    totals = tally.take()
    figures: dict[str, object] = {
        "checks": totals.checks,
        "lateness_p50_ms": totals.lateness_p50_ms,
        "lateness_p99_ms": totals.lateness_p99_ms,
    }
    try:
        overview = await schedule.overview()
    except Unavailable as error:
        figures["schedule"] = f"unknown, {error}"
    else:
        figures |= {"monitors_scheduled": overview.due + overview.leased, "oldest_due_ms": overview.oldest_due_ms}
    log.info("summary", **figures)
