"""Why a monitor is or is not checked, in plain words, as `explain` and the page of a monitor show it."""

from collections.abc import Iterator

from msgspec import Struct

from peekaping_producer.asynq.queue import TaskState, complaints
from peekaping_producer.clock import from_unix_ms, rfc3339
from peekaping_producer.config.settings import Settings
from peekaping_producer.model.cadence import Spacing, cadence
from peekaping_producer.model.ids import is_go_node
from peekaping_producer.model.maintenance import under_maintenance
from peekaping_producer.model.monitor import Snapshot
from peekaping_producer.node.slot_spacing import spacing_for
from peekaping_producer.report.alive import LEADERLESS
from peekaping_producer.report.findings import Findings, Verdict
from peekaping_producer.report.format import instant, printable, printable_name, span
from peekaping_producer.report.status_values import PauseStatus
from peekaping_producer.schedule.view import Place

_SLOTS = 3


class Match(Struct, frozen=True):
    """One of several monitors with the same name."""

    monitor_id: str
    name: str


class Row(Struct, frozen=True):
    """The monitor's row."""

    name: str
    type: str
    interval_s: int
    timeout_s: int
    retrying_every_s: int | None
    """The retry interval, if it is in force: PRODUCER_RETRY_INTERVAL is on, and the monitor is pending."""
    active: bool
    proxy_id: str | None
    under_maintenance: bool


class Explanation(Struct, frozen=True):
    """All that `explain` reports, as `--json` prints it; docs/commands.md describes every field."""

    at: str
    """By Redis' clock; RFC 3339, UTC, like all instants."""
    verdict: Verdict
    reason: str | None
    """Why the monitor is not checked, in words; null if it is."""
    running: bool
    """Whether a producer runs at all, ours or Go's."""
    pause: PauseStatus | None
    """null if checks are not paused."""
    monitor_id: str | None
    matches: list[Match]
    """The monitors of an ambiguous name."""
    monitor: Row | None
    """null if the row is invalid or not known."""
    due: str | None
    """When it is or was due; null if it is claimed or not scheduled, or if no check will come."""
    claimed: bool
    """Whether a node is handling it right now."""
    next_slots: list[str]
    """Empty if no check will come."""
    task: TaskState | None
    """Its task in the queue; null if there is none."""
    queue_trouble: list[str]
    leader: str | None
    leader_is_go: bool
    text: list[str]
    """The lines that are printed without `--json`."""


def explanation(findings: Findings, settings: Settings) -> Explanation:
    """Return what was found about a monitor, in plain words."""
    place, snapshot = findings.place, findings.snapshot
    return Explanation(
        at=rfc3339(from_unix_ms(place.now_ms)),
        verdict=findings.verdict,
        reason=findings.reason,
        running=findings.running,
        pause=findings.pause,
        monitor_id=findings.target.monitor_id,
        matches=[Match(match.id, match.name) for match in findings.target.matches],
        monitor=None if snapshot is None else _row(findings, snapshot, settings),
        due=_due(findings),
        claimed=place.lease_ms is not None,
        next_slots=slots(findings, settings),
        task=findings.task,
        queue_trouble=complaints(findings.queue),
        leader=place.leader and printable(place.leader),
        leader_is_go=place.leader is not None and is_go_node(place.leader),
        text=list(_text(findings, settings)),
    )


def _row(findings: Findings, snapshot: Snapshot, settings: Settings) -> Row:
    monitor = snapshot.monitor
    verdict = under_maintenance(snapshot.maintenances, from_unix_ms(findings.place.now_ms), settings.tz)
    return Row(
        monitor.name,
        monitor.type,
        monitor.interval,
        monitor.timeout,
        findings.retrying_every_s,
        monitor.active,
        None if snapshot.proxy is None else snapshot.proxy.id,
        verdict.under_maintenance,
    )


def facts(findings: Findings, settings: Settings) -> Iterator[tuple[str, str]]:
    """Return what is known about a monitor's schedule and task, as pairs of a label and a text."""
    snapshot = findings.snapshot
    yield "schedule", _place(findings)
    coming = slots(findings, settings)
    if coming:
        yield "next slots", f"{', '.join(coming)} ({_spacing(findings, settings)})"
    if snapshot and snapshot.monitor.active:
        yield "maintenance", _maintenance(snapshot, findings.place, settings)
    yield "task", _task(findings.task)
    yield "queue", "; ".join(complaints(findings.queue)) or "ok"
    yield "leader", _leader(findings.place)


def _text(findings: Findings, settings: Settings) -> Iterator[str]:
    yield f"monitor      {_monitor(findings)}"
    for match in findings.target.matches:
        yield f"             {match.id}  {printable_name(match.name)}"
    if findings.target.monitor_id is None:
        return
    for label, text in facts(findings, settings):
        yield f"{label:11}  {text}"


def _monitor(findings: Findings) -> str:
    snapshot = findings.snapshot
    if snapshot is None:
        return str(findings.reason)
    monitor = snapshot.monitor
    proxy = f", through proxy {snapshot.proxy.id}" if snapshot.proxy else ""
    retry_s = findings.retrying_every_s
    retries = "" if retry_s is None else f" (pending: retried every {span(retry_s)})"
    times = f"every {span(monitor.interval)}{retries}, timeout {span(monitor.timeout)}"
    waits = findings.verdict in {Verdict.NOT_RUNNING, Verdict.PAUSED}
    verdict = f"active, but {findings.reason}" if waits else findings.reason
    id_ = f" ({monitor.id})" if findings.target.named else ""
    named = f"'{printable_name(monitor.name)}'{id_}, type {printable_name(monitor.type)}"
    return f"{named}, {times}{proxy}; {verdict or 'active'}"


def _place(findings: Findings) -> str:
    place = findings.place
    absent = place.due_ms is None and place.lease_ms is None
    if findings.verdict in {Verdict.UNKNOWN, Verdict.INACTIVE, Verdict.INVALID}:
        return "not scheduled" if absent else "still scheduled; a producer will remove it without a check"
    if absent:
        return "not scheduled: not checked until a sweep or an event of the API server adds it"
    return _present(place, running=findings.running)


def _present(place: Place, *, running: bool) -> str:
    nobody = "no producer is running"
    if place.lease_ms is not None:
        left_s = (place.lease_ms - place.now_ms) / 1000
        if not running:
            return f"claimed by a node that is gone, and {nobody}"
        if left_s < 0:
            return f"its claim expired {span(-left_s)} ago; due again within a second"
        return f"being handled by a node; due again in {span(left_s)} if that node has died"
    due_ms = place.due_ms or 0
    in_s = (due_ms - place.now_ms) / 1000
    if running and place.pause and due_ms < place.pause.until_ms:
        return f"due {f'{span(-in_s)} ago' if in_s < 0 else f'in {span(in_s)}'}; it waits for the end of the pause"
    if in_s < 0:
        return f"OVERDUE for {span(-in_s)}: {'no node has claimed it yet' if running else nobody}"
    return f"due in {span(in_s)}, at {instant(due_ms)}" if running else f"scheduled, but {nobody} to check it"


def slots(findings: Findings, settings: Settings, *, past: int = 0) -> list[str]:
    """Return the next slots of a monitor that is checked, after this many past ones.

    Any other monitor has none: listing slots would promise checks.
    """
    if findings.verdict is not Verdict.CHECKED or findings.snapshot is None:
        return []
    monitor = findings.snapshot.monitor
    grid = cadence(monitor.id, monitor.interval, _spacing(findings, settings))
    if findings.retrying_every_s is not None:
        grid = grid.retrying(findings.retrying_every_s)
    first_ms = grid.slot_from(findings.place.now_ms)
    return [rfc3339(from_unix_ms(first_ms + number * grid.period_ms)) for number in range(-past, _SLOTS)]


def _due(findings: Findings) -> str | None:
    place = findings.place
    if place.due_ms is None:
        return None
    may_promise = findings.running and findings.verdict in {Verdict.CHECKED, Verdict.PAUSED, Verdict.UNREADABLE}
    return instant(place.due_ms) if may_promise or place.due_ms < place.now_ms else None


def _spacing(findings: Findings, settings: Settings) -> Spacing:
    return spacing_for(settings.producer_schedule, go_seen=findings.place.go_seen)


def _maintenance(snapshot: Snapshot, place: Place, settings: Settings) -> str:
    if not snapshot.maintenances:
        return "none active"
    verdict = under_maintenance(snapshot.maintenances, from_unix_ms(place.now_ms), settings.tz)
    inside = (
        "IN ITS WINDOW NOW, checks are reported as maintenance" if verdict.under_maintenance else "not in a window now"
    )
    broken = "".join(f"; {one.maintenance_id} cannot be evaluated: {one.reason}" for one in verdict.broken)
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
            return f"was taken by a worker that has died{since}; the next check replaces it"
        case _:
            return f"is {task.state!r} in asynq{since}; the next check replaces it"


def _leader(place: Place) -> str:
    if place.leader is None:
        return LEADERLESS
    return f"{printable(place.leader)}{' (a Go producer)' if is_go_node(place.leader) else ''}"
