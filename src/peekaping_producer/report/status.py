"""The fleet, the schedule and the queue at a glance, as `status` and the page show them."""

from collections.abc import Container, Iterable
from typing import Protocol

from redis.asyncio import Redis

from peekaping_producer.asynq.queue import complaints, queue_state
from peekaping_producer.clock import from_unix_ms, rfc3339
from peekaping_producer.config.settings import ScheduleMode
from peekaping_producer.fleet.invalid_monitors import MOST_LISTED, InvalidMonitors
from peekaping_producer.fleet.registry import Registry, SeenNode
from peekaping_producer.model.ids import is_go_node
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.node.slot_spacing import spacing_for
from peekaping_producer.redisdb.memory import read_memory
from peekaping_producer.report.alive import LEADERLESS, NOT_RUNNING, is_running
from peekaping_producer.report.format import count, instant, printable, printable_name, span
from peekaping_producer.report.pausing import pause_status, pause_text
from peekaping_producer.report.status_values import (
    InactiveNode,
    Invalid,
    InvalidMonitor,
    NextRun,
    NodeStatus,
    Overdue,
    OverdueMonitor,
    Status,
)
from peekaping_producer.schedule.view import Late, ScheduleView
from peekaping_producer.timing import Timing

NEXT_RUNS = 10
MOST_OVERDUE = 5
MOST_INVALID = 20
MOST_GONE = 10
OVERDUE_AFTER_MS = 10_000
"""A monitor overdue for longer is trouble even while a producer runs: claims of a dead node take 6 s to come back."""


class NameSource(Protocol):
    """Where names of monitors come from."""

    problem: str | None
    """Why names are not known; None if they are."""

    async def of(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the names of these monitors, as far as they are known or can be found out soon."""


async def read_status(redis: Redis, timing: Timing, names: NameSource | None = None) -> Status:
    """Read the status, with the names that are known. Raises Unavailable if Redis does not answer in time."""
    schedule = ScheduleView(redis, timing.redis_timeout_s)
    place = await schedule.place_of(MonitorId(""))
    overview = await schedule.overview()
    queue = await queue_state(redis, timing.redis_timeout_s)
    memory = await read_memory(redis, timing.redis_timeout_s)
    registry = Registry(redis, timing)
    seen, inactive = await registry.seen(), await registry.inactive()
    running = is_running(seen, place)
    paused_ms = place.now_ms - place.pause.since_ms if place.pause else 0
    late = await schedule.late(place.now_ms, OVERDUE_AFTER_MS + paused_ms if running else 0, MOST_OVERDUE)
    runs = await schedule.next_runs(NEXT_RUNS)
    invalid = await InvalidMonitors(redis, timing).all()
    listed = dict(sorted(invalid.items())[:MOST_INVALID])
    known = await names.of([run.id for run in runs] + [run.id for run in late.first] + [*listed]) if names else {}
    nodes = _nodes(seen, place.leader, place.now_ms)
    inactive_nodes = _inactive(inactive, {node.info.id for node in seen}, place.now_ms)
    overdue = _overdue(late, place.now_ms, known)
    pause = pause_status(place)
    trouble = [
        *([] if running else [NOT_RUNNING]),
        *([pause_text(pause)] if pause else []),
        *_overdue_trouble(overdue),
        *([LEADERLESS] if running and not place.leader else []),
        *(_database_trouble(node) for node in nodes if node.database_problem and not node.gone),
        *(
            f"{node.id}: waits for its database, {node.database_problem}"
            for node in inactive_nodes
            if node.database_problem
        ),
        *complaints(queue),
        *_invalid_trouble(len(invalid)),
    ]
    return Status(
        at=rfc3339(from_unix_ms(place.now_ms)),
        running=running,
        trouble=trouble,
        pause=pause,
        overdue=overdue,
        nodes=nodes,
        inactive_nodes=inactive_nodes,
        leader=place.leader and printable(place.leader),
        leader_is_go=place.leader is not None and is_go_node(place.leader),
        spacing=spacing_for(ScheduleMode.AUTO, go_seen=place.go_seen).value,
        scheduled=overview.due + overview.leased,
        claimed=overview.leased,
        invalid=Invalid(
            len(invalid), [InvalidMonitor(printable(id_), known.get(id_), why) for id_, why in listed.items()]
        ),
        queue=queue,
        memory=memory,
        next_runs=[
            NextRun(
                printable(run.id),
                known.get(run.id),
                instant(run.due_ms),
                round((run.due_ms - place.now_ms) / 1000, 3),
            )
            for run in runs
        ],
        names_problem=names.problem if names else None,
    )


def _nodes(seen: Iterable[SeenNode], leader: str | None, now_ms: int) -> list[NodeStatus]:
    """Return the nodes that are alive, and then those that are gone, the latest first."""
    ordered = sorted(seen, key=lambda node: (node.gone, -node.last_seen_ms if node.gone else 0, node.info.id))
    alive = [node for node in ordered if not node.gone]
    return [_node(node, leader, now_ms) for node in (*alive, *ordered[len(alive) :][:MOST_GONE])]


def _node(node: SeenNode, leader: str | None, now_ms: int) -> NodeStatus:
    info = node.info
    return NodeStatus(
        id=printable(info.id),
        version=printable(info.version),
        started=printable(info.started),
        last_seen=instant(node.last_seen_ms),
        seen_ago_s=_ago_s(node, now_ms),
        gone=node.gone,
        leads=info.id == leader,
        concurrency=info.concurrency,
        checks=info.checks,
        lateness_p50_ms=info.lateness_p50_ms,
        lateness_p99_ms=info.lateness_p99_ms,
        database_problem=info.database_problem and printable_name(info.database_problem),
        checks_from_cache=info.checks_from_cache,
        cache_age_s=info.cache_age_s,
        last_sweep=info.swept,
        claimed_ago_s=info.claimed_ago_s,
        database_down_s=info.database_down_s,
        recent=info.recent,
    )


def _inactive(inactive: Iterable[SeenNode], active: Container[str], now_ms: int) -> list[InactiveNode]:
    return [
        InactiveNode(
            id=printable(info.id),
            seen_ago_s=_ago_s(node, now_ms),
            database_problem=printable_name(info.database_problem or "") if info.starting else None,
            database_down_s=info.database_down_s,
            recent=info.recent,
        )
        for node in inactive
        if (info := node.info).id not in active
    ]


def _ago_s(node: SeenNode, now_ms: int) -> float:
    return round((now_ms - node.last_seen_ms) / 1000, 1)


def _overdue(late: Late, now_ms: int, names: dict[str, str]) -> Overdue:
    def overdue_ms(due_ms: float) -> int:
        # A damaged score may be infinite.
        return int(max(0, min(now_ms, now_ms - due_ms)))

    return Overdue(
        count=late.count,
        longest_ms=0 if late.oldest_ms is None else overdue_ms(late.oldest_ms),
        monitors=[OverdueMonitor(printable(one.id), names.get(one.id), overdue_ms(one.due_ms)) for one in late.first],
    )


def _overdue_trouble(overdue: Overdue) -> list[str]:
    if not overdue.count:
        return []
    names = [f"'{printable_name(one.name)}'" if one.name else one.monitor_id for one in overdue.monitors]
    more = f" and {overdue.count - len(names):,} more" if overdue.count > len(names) else ""
    are = count(overdue.count, "monitor is", "monitors are")
    return [f"{are} overdue, the longest for {span(overdue.longest_ms / 1000)}: {', '.join(names)}{more}"]


def _database_trouble(node: NodeStatus) -> str:
    unavailable = f"{node.id}: database unavailable, {node.database_problem}"
    if not node.checks_from_cache:
        return unavailable
    checks = count(node.checks_from_cache, "check", "checks")
    return f"{unavailable}; {checks} served from the cache, up to {span(node.cache_age_s)} old"


def _invalid_trouble(number: int) -> list[str]:
    if not number:
        return []
    more = " or more" if number >= MOST_LISTED else ""
    return [f"{number:,}{more} {'monitor is' if number == 1 else 'monitors are'} skipped as invalid and not checked"]
