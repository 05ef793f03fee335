"""The other producers, and the workers behind the queue."""

from collections.abc import Iterator, Sequence

from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.asynq.queue import NO_WORKER, PAUSED, TOO_SLOW, QueueState, complaints
from peekaping_producer.config.fields import Switch
from peekaping_producer.config.settings import ScheduleMode
from peekaping_producer.fleet.registry import NodeInfo, Registry
from peekaping_producer.model.ids import is_go_node
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.preflight.finding import Area, Finding, Level
from peekaping_producer.report.pausing import RESUME, pause_status, pause_text
from peekaping_producer.report.status_values import PauseStatus
from peekaping_producer.schedule.view import ScheduleView
from peekaping_producer.timing import Timing

_MOST_LISTED = 10
_TO_DO = {
    PAUSED: "resume the queue",
    NO_WORKER: "start Peekaping's workers",
    TOO_SLOW: "start more workers",
}


class Producers(Struct, frozen=True):
    """The producers that run."""

    nodes: Sequence[NodeInfo]
    leader: str | None
    go_seen: bool
    """A Go producer was noticed in the last 2 minutes."""
    pause: PauseStatus | None = None
    """None if checks are not paused."""


async def read_producers(redis: Redis, timing: Timing, *, without: str = "") -> Producers:
    """Read which producers run, except the node `without`. Raises Unavailable if Redis does not answer in time."""
    place = await ScheduleView(redis, timing.redis_timeout_s).place_of(MonitorId(""))
    nodes = [node for node in await Registry(redis, timing).nodes() if node.id != without]
    return Producers(nodes, place.leader, place.go_seen, pause_status(place))


def producer_findings(
    producers: Producers, mode: ScheduleMode, retry_interval: Switch = Switch.OFF
) -> Iterator[Finding]:
    """Return what there is to say about the other producers, by this PRODUCER_SCHEDULE and PRODUCER_RETRY_INTERVAL."""
    listed = [_described(node, producers.leader) for node in producers.nodes[:_MOST_LISTED]]
    if len(producers.nodes) > len(listed):
        listed.append(f"and {len(producers.nodes) - len(listed):,} more")
    yield _found("producers", f"other producers run: {', '.join(listed)}" if listed else "no other producer runs")
    leads = producers.leader if producers.leader and is_go_node(producers.leader) else None
    if not (leads or producers.go_seen):
        return
    what = f"a Go producer leads ({leads})" if leads else "a Go producer was noticed in the last 2 minutes"
    if mode is ScheduleMode.SPREAD:
        yield Finding(
            Area.DEPLOYMENT,
            "go-producer",
            Level.WARNING,
            f"{what}: with PRODUCER_SCHEDULE=spread, checks by the two kinds of producers come too close to each other",
            "set PRODUCER_SCHEDULE=auto, or stop the Go producer",
        )
    else:
        yield _found("go-producer", f"{what}; checks are aligned to its slots while it runs")
    if retry_interval is Switch.ON:
        yield Finding(
            Area.DEPLOYMENT,
            "retry-interval",
            Level.WARNING,
            f"{what}: it ignores retry_interval, and PRODUCER_RETRY_INTERVAL=on applies to only part of the checks",
            "stop the Go producer, or set PRODUCER_RETRY_INTERVAL=off",
        )


def pause_findings(producers: Producers) -> Iterator[Finding]:
    """Return whether checks are paused."""
    if producers.pause:
        yield Finding(Area.DEPLOYMENT, "pause", Level.WARNING, pause_text(producers.pause), RESUME)
    else:
        yield _found("pause", "checks are not paused")


def queue_findings(queue: QueueState) -> Iterator[Finding]:
    """Return what there is to say about the queue and its workers."""
    troubles = complaints(queue)
    for trouble in troubles:
        yield Finding(Area.DEPLOYMENT, "queue", Level.WARNING, trouble, _TO_DO[trouble])
    if not troubles:
        workers = f"{queue.workers:,} worker {'process takes' if queue.workers == 1 else 'processes take'}"
        yield _found("queue", f"{workers} checks from the queue; {queue.pending:,} waiting")


def _described(node: NodeInfo, leader: str | None) -> str:
    problem = ", its database is unavailable" if node.database_problem else ""
    leads = ", leads" if node.id == leader else ""
    return f"{node.id} (version {node.version or 'unknown'}{leads}{problem})"


def _found(topic: str, what: str) -> Finding:
    return Finding(Area.DEPLOYMENT, topic, Level.OK, what)
