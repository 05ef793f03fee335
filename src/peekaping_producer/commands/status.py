"""`status`: the fleet, the schedule and the queue at a glance."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from rich.console import Console
from rich.live import Live
from rich.text import Text

from peekaping_producer.cadence import Spacing
from peekaping_producer.clock import from_unix_ms, rfc3339
from peekaping_producer.commands.reach import reached_redis
from peekaping_producer.commands.words import columns, instant, printable, span
from peekaping_producer.config import ScheduleMode, Settings
from peekaping_producer.fleet.queue import QueueState, queue_state
from peekaping_producer.fleet.registry import NodeInfo, Registry
from peekaping_producer.monitor import MonitorId
from peekaping_producer.queue_watch import complaints
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.spacing import spacing_for
from peekaping_producer.timing import Timing

_NEXT_RUNS = 10
_WATCH_EVERY_S = 1.0


class NextRun(Struct, frozen=True):
    """A monitor that is due next."""

    monitor_id: str
    due: str
    """RFC 3339, UTC."""
    in_s: float
    """Below 0 where it is overdue."""


class Status(Struct, frozen=True):
    """All that `status` tells, as `--json` prints it."""

    at: str
    """By Redis' clock, RFC 3339, UTC."""
    nodes: list[NodeInfo]
    leader: str | None
    leader_is_go: bool
    spacing: str
    """Of nodes with PRODUCER_SCHEDULE=auto: `spread` or `aligned`."""
    due: int
    leased: int
    oldest_due_ms: int | None
    """How long the longest overdue monitor has been due; 0 when none is, null when none is scheduled."""
    queue: QueueState
    trouble: list[str]
    """What keeps checks from being run, in words."""
    next_runs: list[NextRun]


async def read_status(redis: Redis, timing: Timing) -> Status:
    """Gather it. Raises Unavailable when Redis does not answer in time."""
    schedule = Schedule(redis, timing)
    place = await schedule.place_of(MonitorId(""))
    overview = await schedule.overview()
    queue = await queue_state(redis, timing.redis_timeout_s)
    nodes = await Registry(redis, timing).nodes()
    leaderless = ["no node leads: new monitors are not scheduled, deleted ones not removed"]
    away = [_away(node) for node in nodes if node.database_away]
    return Status(
        at=rfc3339(from_unix_ms(place.now_ms)),
        nodes=nodes,
        leader=place.leader and printable(place.leader),
        leader_is_go=place.leader is not None and is_go_node(place.leader),
        spacing=spacing_for(ScheduleMode.AUTO, go_seen=place.go_seen).value,
        due=overview.due,
        leased=overview.leased,
        oldest_due_ms=overview.oldest_due_ms,
        queue=queue,
        trouble=[*([] if place.leader else leaderless), *complaints(queue), *away],
        next_runs=[
            NextRun(printable(run.id), instant(run.due_ms), round((run.due_ms - place.now_ms) / 1000, 3))
            for run in await schedule.next_runs(_NEXT_RUNS)
        ],
    )


def is_go_node(node_id: str) -> bool:
    """Tell whether a node's id is a Go producer's: it ends in digits, ours bear a letter there."""
    return node_id.rpartition("-")[2].isdigit()


def show_status(settings: Settings, *, as_json: bool, watch: bool) -> None:
    """Print it, again and again with `watch`. Raises ConfigurationError and Unavailable."""
    # As Ctrl-C does: a watched terminal gets its screen back.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asyncio.run(_show(settings, as_json=as_json, watch=watch))


async def _show(settings: Settings, *, as_json: bool, watch: bool) -> None:
    timing = Timing()
    console = Console(highlight=False)
    async with reached_redis(settings, timing) as redis, AsyncExitStack() as stack:
        live = None
        if watch and console.is_terminal and not as_json:
            live = stack.enter_context(Live(console=console, auto_refresh=False, screen=True))
        while True:
            status = await read_status(redis, timing)
            if as_json:
                console.out(msgspec.json.encode(status).decode())
            elif live:
                live.update(Text(status_text(status)), refresh=True)
            else:
                console.out(status_text(status))
            if not watch:
                return
            await asyncio.sleep(_WATCH_EVERY_S)


def status_text(status: Status) -> str:
    """Return it as a person reads it."""
    parts = [_headline(status), _nodes(status), _queue(status.queue), _runs(status)]
    return "\n\n".join("\n".join(lines) for lines in parts)


def _away(node: NodeInfo) -> str:
    told = f"{node.id}: database unavailable, {node.database_away}"
    if not node.checks_from_copy:
        return told
    return f"{told}; {node.checks_from_copy:,} checks went on, by copies up to {span(node.oldest_copy_s)} old"


def _headline(status: Status) -> Iterator[str]:
    if status.leader is None:
        yield "leader     nobody"
    elif status.leader_is_go:
        yield f"leader     {status.leader} (a Go producer)"
    else:
        yield f"leader     {status.leader}"
    overdue = status.oldest_due_ms
    late = "nothing is scheduled" if overdue is None else f"the longest overdue for {span(overdue / 1000)}"
    yield f"schedule   {status.due:,} waiting, {status.leased:,} being handled; {late}"
    beside = "spread" if status.spacing == Spacing.SPREAD else "aligned, for a Go producer was seen within 2 minutes"
    yield f"slots      {beside} (where PRODUCER_SCHEDULE is auto)"
    for what in status.trouble:
        yield f"trouble    {what}"


def _nodes(status: Status) -> Iterator[str]:
    rows = [("node", "version", "started", "leads", "concurrency", "checks", "lateness p50", "p99")]
    for node in status.nodes:
        leads = "yes" if node.id == status.leader else ""
        p50, p99 = _ms(node.lateness_p50_ms), _ms(node.lateness_p99_ms)
        checks = f"{node.checks:,}"
        rows.append((node.id, node.version, node.started, leads, str(node.concurrency), checks, p50, p99))
    return columns(rows)


def _queue(queue: QueueState) -> Iterator[str]:
    paused = ", paused" if queue.paused else ""
    yield f"queue      {queue.pending:,} pending, {queue.active:,} running, {queue.workers} worker process(es){paused}"
    yield (
        f"           {queue.scheduled:,} scheduled, {queue.retry:,} retry, {queue.archived:,} archived, "
        f"{queue.completed:,} completed"
    )
    if queue.oldest:
        yield f"           the oldest pending for {span(queue.oldest.age_s)}: {printable(queue.oldest.monitor_id)}"


def _runs(status: Status) -> Iterator[str]:
    rows = [("next run", "due", "in")]
    for run in status.next_runs:
        when = f"overdue for {span(-run.in_s)}" if run.in_s < 0 else span(run.in_s)
        rows.append((run.monitor_id, run.due, when))
    return columns(rows)


def _ms(value: int | None) -> str:
    return "" if value is None else f"{value} ms"
