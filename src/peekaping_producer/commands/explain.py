"""`explain`: why one monitor is or is not checked, in words for a person under stress."""

import asyncio
from collections.abc import Iterator

from msgspec import Struct

from peekaping_producer.cadence import cadence
from peekaping_producer.catalog.reading import Reading, is_monitor_id
from peekaping_producer.clock import from_unix_ms, rfc3339
from peekaping_producer.commands.alive import is_go_node
from peekaping_producer.commands.reach import reached_catalog, reached_redis
from peekaping_producer.commands.words import instant, printable, span
from peekaping_producer.config import Settings
from peekaping_producer.errors import Unavailable
from peekaping_producer.fleet.queue import QueueState, TaskState, queue_state, task_state
from peekaping_producer.maintenance import under_maintenance
from peekaping_producer.monitor import MonitorId, Snapshot
from peekaping_producer.queue_watch import complaints
from peekaping_producer.schedule.store import Place, Schedule
from peekaping_producer.spacing import spacing_for
from peekaping_producer.timing import Timing

_SLOTS = 3


class Findings(Struct, frozen=True):
    """All that was looked up about one monitor."""

    monitor_id: MonitorId
    reading: Reading | Unavailable
    place: Place
    task: TaskState | None
    queue: QueueState


def explain(settings: Settings, monitor_id: str) -> tuple[list[str], bool]:
    """Return the lines, and whether it is an active monitor. Raises ConfigurationError and Unavailable."""
    findings = asyncio.run(_look(settings, MonitorId(monitor_id.strip().lower())))
    lines = list(_told(findings, settings))
    found = findings.reading.found if isinstance(findings.reading, Reading) else {}
    snapshot = found.get(findings.monitor_id)
    return lines, bool(snapshot and snapshot.monitor.active)


async def _look(settings: Settings, monitor_id: MonitorId) -> Findings:
    timing = Timing()
    async with reached_redis(settings, timing) as redis:
        reading: Reading | Unavailable
        try:
            async with reached_catalog(settings, timing) as catalog:
                reading = await catalog.read([monitor_id])
        except Unavailable as error:
            reading = error
        return Findings(
            monitor_id,
            reading,
            await Schedule(redis, timing).place_of(monitor_id),
            await task_state(redis, monitor_id, timing.redis_timeout_s),
            await queue_state(redis, timing.redis_timeout_s),
        )


def _told(findings: Findings, settings: Settings) -> Iterator[str]:
    snapshot = None
    if isinstance(findings.reading, Unavailable):
        yield f"monitor      can't be read: {findings.reading}"
    elif findings.monitor_id in findings.reading.aside:
        yield f"monitor      gets no check, its row is set aside: {findings.reading.aside[findings.monitor_id]}"
    else:
        snapshot = findings.reading.found.get(findings.monitor_id)
        yield f"monitor      {_row(findings.monitor_id, snapshot)}"
    yield f"schedule     {_place(findings.place)}"
    if snapshot and snapshot.monitor.active:
        yield f"next slots   {_slots(snapshot, findings.place, settings)}"
        yield f"maintenance  {_maintenance(snapshot, findings.place, settings)}"
    yield f"task         {_task(findings.task)}"
    yield f"queue        {'; '.join(complaints(findings.queue)) or 'is being worked on'}"
    yield f"leader       {_leader(findings.place)}"


def _row(monitor_id: MonitorId, snapshot: Snapshot | None) -> str:
    if snapshot is None:
        return "unknown: the database has no such monitor" if is_monitor_id(monitor_id) else "this is no monitor's id"
    monitor = snapshot.monitor
    active = "active" if monitor.active else "NOT ACTIVE, so it gets no check"
    proxy = f", through proxy {snapshot.proxy.id}" if snapshot.proxy else ""
    times = f"every {span(monitor.interval)}, timeout {span(monitor.timeout)}"
    return f"{monitor.name!r}, type {monitor.type}, {times}{proxy}; {active}"


def _place(place: Place) -> str:
    if place.lease_ms is not None:
        left_s = (place.lease_ms - place.now_ms) / 1000
        if left_s < 0:
            return f"was claimed by a node that has not settled it for {span(-left_s)}; it comes back within a second"
        return f"claimed by a node this moment; if that node died, it is due again in {span(left_s)}"
    if place.due_ms is None:
        return "not in it: nothing will check it until a leader's sweep or an event brings it in"
    in_s = (place.due_ms - place.now_ms) / 1000
    if in_s >= 0:
        return f"due in {span(in_s)}, at {instant(place.due_ms)}"
    return f"OVERDUE for {span(-in_s)}: no producer claims it; is one running?"


def _slots(snapshot: Snapshot, place: Place, settings: Settings) -> str:
    monitor = snapshot.monitor
    spacing = spacing_for(settings.producer_schedule, go_seen=place.go_seen)
    own = cadence(monitor.id, monitor.interval, spacing)
    first_ms = own.slot_from(place.now_ms)
    slots = [rfc3339(from_unix_ms(first_ms + number * own.period_ms)) for number in range(_SLOTS)]
    return f"{', '.join(slots)} ({spacing.value})"


def _maintenance(snapshot: Snapshot, place: Place, settings: Settings) -> str:
    if not snapshot.maintenances:
        return "none that is active"
    verdict = under_maintenance(snapshot.maintenances, from_unix_ms(place.now_ms), settings.tz)
    inside = (
        "IN ITS WINDOW NOW, checks are reported as maintenance" if verdict.under_maintenance else "not in a window now"
    )
    broken = "".join(f"; {one.maintenance_id} can't be judged: {one.reason}" for one in verdict.broken)
    return f"{inside}, of {len(snapshot.maintenances)} active{broken}"


def _task(task: TaskState | None) -> str:
    if task is None:
        return "none in the queue: the last check has been taken and finished, or none was queued yet"
    since = "" if task.pending_s is None else f", queued {span(task.pending_s)} ago"
    match task.state:
        case "pending":
            return f"waits for a worker{since}"
        case "active" if task.lease_left_s is not None and task.lease_left_s >= 0:
            return f"is being run by a worker{since}"
        case "active":
            return f"was taken by a worker that has died{since}; the next check takes its place"
        case _:
            return f"stands as {task.state!r} in asynq{since}; the next check takes its place"


def _leader(place: Place) -> str:
    if place.leader is None:
        return "nobody leads: new monitors are not scheduled and deleted ones not removed until a node does"
    return f"{printable(place.leader)}{' (a Go producer)' if is_go_node(place.leader) else ''}"
