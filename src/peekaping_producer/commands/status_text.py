"""`status` as text, trouble first."""

from collections.abc import Iterator

from peekaping_producer.asynq.queue import QueueState
from peekaping_producer.model.cadence import Spacing
from peekaping_producer.report.alive import NOT_RUNNING
from peekaping_producer.report.format import columns, count, printable, printable_name, span
from peekaping_producer.report.status_values import NodeStatus, Status

_ON_TIME_MS = 1_000
"""Overdue for less counts as on time."""


def status_text(status: Status) -> str:
    """Return the status in paragraphs."""
    parts = [_trouble(status), _headline(status), _nodes(status), _queue(status.queue), _invalid(status), _runs(status)]
    return "\n\n".join(text for part in parts if (text := "\n".join(part)))


def _trouble(status: Status) -> Iterator[str]:
    for what in status.trouble:
        yield what if what == NOT_RUNNING else f"trouble    {what}"


def _headline(status: Status) -> Iterator[str]:
    if status.leader is None:
        yield "leader     none"
    else:
        yield f"leader     {status.leader}{' (a Go producer)' if status.leader_is_go else ''}"
    yield f"schedule   {_schedule(status)}"
    aligned = "aligned, because a Go producer was detected in the last 2 minutes"
    yield f"slots      with PRODUCER_SCHEDULE=auto: {'spread' if status.spacing == Spacing.SPREAD else aligned}"
    if status.names_problem:
        yield f"names      not shown: {status.names_problem}"


def _schedule(status: Status) -> str:
    if not status.scheduled:
        return "empty"
    overdue_ms = status.overdue.longest_ms
    late = f"the longest overdue for {span(overdue_ms / 1000)}" if overdue_ms >= _ON_TIME_MS else "none overdue"
    return f"{count(status.scheduled, 'monitor', 'monitors')}, {status.claimed:,} being handled; {late}"


def _nodes(status: Status) -> Iterator[str]:
    if not status.nodes:
        yield "nodes      none"
        return
    heads = (
        "node",
        "state",
        "last seen",
        "version",
        "started",
        "leads",
        "concurrency",
        "checks",
        "lateness p50",
        "p99",
    )
    yield from columns([(*heads, "database"), *map(_node, status.nodes)])


def _node(node: NodeStatus) -> tuple[str, ...]:
    seen = f"{span(node.seen_ago_s)} ago"
    start = (node.id, "gone" if node.gone else "alive", seen, node.version, node.started)
    if node.gone:
        return (*start, "", "", "", "", "", "")
    figures = (str(node.concurrency), f"{node.checks:,}", _ms(node.lateness_p50_ms), _ms(node.lateness_p99_ms))
    return (*start, "yes" if node.leads else "", *figures, "unavailable" if node.database_problem else "")


def _queue(queue: QueueState) -> Iterator[str]:
    paused = ", paused" if queue.paused else ""
    workers = count(queue.workers, "worker process", "worker processes")
    yield f"queue      {queue.pending:,} pending, {queue.active:,} running, {workers}{paused}"
    yield (
        f"           {queue.scheduled:,} scheduled, {queue.retry:,} retry, {queue.archived:,} archived, "
        f"{queue.completed:,} completed"
    )
    if queue.oldest:
        yield f"           the oldest pending for {span(queue.oldest.age_s)}: {printable(queue.oldest.monitor_id)}"


def _invalid(status: Status) -> Iterator[str]:
    listed = status.invalid.monitors
    if not listed:
        return
    rows = [("skipped as invalid", "name", "reason")]
    rows += [(one.monitor_id, _name(one.name), printable_name(one.reason)) for one in listed]
    yield from columns(rows)
    if status.invalid.count > len(listed):
        yield f"and {status.invalid.count - len(listed):,} more"


def _runs(status: Status) -> Iterator[str]:
    if not status.next_runs:
        return
    rows = [("due next" if status.running and not status.pause else "due, but not checked", "name", "due", "in")]
    for run in status.next_runs:
        when = f"overdue for {span(-run.in_s)}" if run.in_s < 0 else span(run.in_s)
        rows.append((run.monitor_id, _name(run.name), run.due, when))
    yield from columns(rows)


def _name(name: str | None) -> str:
    return printable_name(name or "")


def _ms(value: int | None) -> str:
    return "" if value is None else f"{value} ms"
