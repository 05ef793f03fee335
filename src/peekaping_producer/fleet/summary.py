"""A log line with the counts of the last minute."""

from peekaping_producer.clock import from_unix_ms, rfc3339
from peekaping_producer.errors import Unavailable
from peekaping_producer.node.node import Node
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.schedule.view import ScheduleView


async def summary_loop(node: Node, view: ScheduleView) -> None:
    """Log a summary every minute until it is time to stop."""
    while not await node.stop.within(node.timing.summary_every_s):
        await write_summary(node, view)


async def write_summary(node: Node, view: ScheduleView) -> None:
    """Log what was counted since the last summary."""
    totals = node.tally.take()
    figures: dict[str, object] = {
        "checks": totals.checks,
        "lateness_p50_ms": totals.lateness_p50_ms,
        "lateness_p99_ms": totals.lateness_p99_ms,
    }
    if totals.cache_age_s is not None:
        figures["cache_age_s"] = round(totals.cache_age_s, 1)
    if node.pause.now:
        figures["paused_until"] = rfc3339(from_unix_ms(node.pause.now.until_ms))
    try:
        overview = await view.overview()
    except Unavailable as error:
        figures["schedule"] = f"unknown, {error}"
    else:
        figures |= {"monitors_scheduled": overview.due + overview.leased, "oldest_due_ms": overview.oldest_due_ms}
    node.log.info(LogEvent.SUMMARY, **figures)
