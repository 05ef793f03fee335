"""The metrics: what the loops have counted and measured, in the formats of Prometheus. docs/metrics.md lists them."""

import asyncio
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from msgspec import Struct
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from peekaping_producer import __version__
from peekaping_producer.catalog.last_known import LastKnown
from peekaping_producer.clock import now_utc
from peekaping_producer.node.node import Node
from peekaping_producer.observe.histogram import Histogram
from peekaping_producer.observe.outcomes import MISSED, Outcome
from peekaping_producer.web.loop_lag import LoopLag
from peekaping_producer.web.redis_figures import RedisFigures, RedisReader

PREFIX: Final = "peekaping_producer_"
_OWN_METRIC: Final = {
    Outcome.RECLAIMED: ("reclaimed", "Claims that expired, and were put back by this node."),
    Outcome.FROM_CACHE: ("checks_from_cache", "Checks built from the cache while the database was unavailable."),
    Outcome.EVENT_DROPPED: ("events_dropped", "Messages on Peekaping's event channels that could not be understood."),
    Outcome.LOOP_FAILED: ("loop_failures", "Failures of a part of the producer, which was restarted."),
}
"""Outcomes that are not what became of a claimed monitor: each is a metric without labels."""


class Exposition(Struct, frozen=True):
    """All metrics as text."""

    content_type: str
    body: bytes


class Metrics:
    """Writes the metrics when asked, and at most once a second in each format."""

    def __init__(self, node: Node, cache: LastKnown, redis: RedisReader, lag: LoopLag) -> None:
        """Take what they are read from."""
        self._node = node
        self._cache = cache
        self._redis = redis
        self._lag = lag
        self._writing = asyncio.Lock()
        self._kept: dict[bool, Exposition] = {}
        self._until_s = 0.0

    async def exposition(self, accept: str) -> Exposition:
        """Return the metrics in OpenMetrics if the client accepts that, else in the text format of Prometheus."""
        wanted = "application/openmetrics-text" in accept
        async with self._writing:
            if time.monotonic() >= self._until_s:
                self._kept.clear()
                self._until_s = time.monotonic() + self._node.timing.figures_kept_s
            if wanted not in self._kept:
                self._kept[wanted] = self._written(await self._redis.figures(), openmetrics_format=wanted)
            return self._kept[wanted]

    def _written(self, figures: RedisFigures | None, *, openmetrics_format: bool) -> Exposition:
        collector = _Collector(lambda: self._families(figures))
        if openmetrics_format:
            return Exposition(openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest(collector))  # type: ignore[no-untyped-call]
        return Exposition(CONTENT_TYPE_PLAIN_0_0_4, generate_latest(collector))

    def _families(self, figures: RedisFigures | None) -> Iterator[Metric]:
        build = GaugeMetricFamily(f"{PREFIX}build_info", "What runs; always 1.", labels=("version", "python"))
        build.add_metric((__version__, platform.python_version()), 1)
        yield build
        yield from self._checks()
        yield from self._pause()
        yield from self._leader(figures)
        yield from self._dependencies()
        yield from self._queue_and_process(figures)

    def _checks(self) -> Iterator[Metric]:
        tally, measures = self._node.tally, self._node.measures
        missed = [outcome for outcome in Outcome if outcome in MISSED]
        others = [outcome for outcome in Outcome if outcome not in MISSED and outcome not in _OWN_METRIC]
        yield _counter(
            "checks",
            "What became of claimed monitors; some are counted twice, see docs/logs.md.",
            {outcome.value: tally.total[outcome] for outcome in others},
            "outcome",
        )
        yield _histogram(
            "lateness_seconds",
            "From the due time of a check, or the end of a pause, until its task was in the queue.",
            {"": tally.lateness_s},
        )
        yield _histogram(
            "stage_seconds",
            "How long a batch of checks took in each stage.",
            {stage.value: histogram for stage, histogram in measures.stage_s.items()},
            "stage",
        )
        yield _histogram(
            "batch_size", "Monitors that a claim took; claims that took none are left out.", {"": measures.batch_size}
        )
        yield _counter(
            "missed",
            "Checks that were not made.",
            {outcome.removeprefix("missed_"): tally.total[outcome] for outcome in missed},
            "reason",
        )
        for outcome, (name, text) in _OWN_METRIC.items():
            yield _counter(name, text, {"": tally.total[outcome]})

    def _pause(self) -> Iterator[Metric]:
        pause = self._node.pause.now
        text = "1 while checks are paused, else 0; the same on every node."
        yield _gauge("paused", text, {"": int(pause is not None)})
        yield _gauge(
            "paused_until_timestamp_seconds",
            "When the pause ends by itself, Unix time; 0 if there is none.",
            {"": pause.until_ms / 1000 if pause else 0},
        )

    def _leader(self, figures: RedisFigures | None) -> Iterator[Metric]:
        node, measures = self._node, self._node.measures
        yield _gauge(
            "monitors",
            "Monitors in the schedule that wait or are overdue (due) or are claimed (leased), and those that are"
            " skipped as invalid; the same on every node.",
            {"due": figures.schedule.due, "leased": figures.schedule.leased, "invalid": figures.invalid}
            if figures
            else {},
            "state",
        )
        yield _gauge(
            "oldest_due_seconds",
            "How long the longest overdue monitor has been due, 0 if none is; the same on every node.",
            {"": (figures.schedule.oldest_due_ms or 0) / 1000} if figures else {},
        )
        yield _gauge("leader", "1 if this node leads, else 0.", {"": int(node.status.leading)})
        yield _counter(
            "term_changes", "Terms of leadership, of any node, that this node has seen begin.", {"": measures.terms}
        )
        yield _gauge(
            "sweep_seconds",
            "How long this node's last sweep took; absent if it has made none.",
            {} if measures.sweep_s is None else {"": measures.sweep_s},
        )
        yield _counter(
            "sweep_changes",
            "What this node's sweeps changed in the schedule: monitors, and tasks that were relisted.",
            dict(measures.sweep_changes),
            "kind",
        )

    def _dependencies(self) -> Iterator[Metric]:
        node = self._node
        outages = {"redis": node.redis_outage, "database": node.database_outage}
        yield _gauge(
            "dependency_up",
            "1 if the system has answered this node and is available, else 0.",
            {system: int(outage.has_answered and not outage.ongoing) for system, outage in outages.items()},
            "system",
        )
        yield _counter(
            "dependency_errors",
            "Requests that the system did not answer, or refused.",
            {system: outage.failures for system, outage in outages.items()},
            "system",
        )
        yield _counter(
            "outage_seconds",
            "How long the system has been unavailable for this node.",
            {system: outage.total_s for system, outage in outages.items()},
            "system",
        )
        yield _gauge(
            "cache_oldest_seconds",
            "The age of the oldest cache entry used in the current outage of the database, 0 if none was.",
            {"": node.database_outage.from_cache[1]},
        )
        yield _gauge("cache_bytes", "The memory that the cache takes.", {"": self._cache.size_bytes})

    def _queue_and_process(self, figures: RedisFigures | None) -> Iterator[Metric]:
        queue = figures.queue if figures else None
        states = ("pending", "active", "scheduled", "retry", "archived", "completed")
        yield _gauge(
            "queue_tasks",
            "Tasks in the queue of health checks, by asynq's state; the same on every node.",
            {state: getattr(queue, state) for state in states} if queue else {},
            "state",
        )
        yield _gauge(
            "queue_oldest_seconds",
            "How long the oldest pending task has waited, 0 if none waits; the same on every node.",
            {"": queue.oldest.age_s if queue.oldest else 0} if queue else {},
        )
        yield _gauge(
            "workers",
            "Live workers that take from the queue; the same on every node.",
            {"": queue.workers} if queue else {},
        )
        ago_s = self._node.measures.claimed_ago_s
        yield _gauge(
            "last_claim_timestamp_seconds",
            "When Redis last answered a claim of this node, Unix time; 0 if it never did.",
            {"": 0 if ago_s is None else round(now_utc().timestamp() - ago_s, 3)},
        )
        yield _gauge(
            "event_loop_lag_seconds",
            "The longest delay of the event loop in the last minute.",
            {"": self._lag.longest_s},
        )


class _Collector(Collector):
    """Metrics that are made when they are written."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        return self._collect()


Values = Mapping[str, float]
"""Label → value; the label is empty if there is no label."""


def _gauge(name: str, text: str, values: Values, label: str = "") -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=_names(label))
    for value_of, value in values.items():
        family.add_metric(_names(value_of), value)
    return family


def _counter(name: str, text: str, values: Values, label: str = "") -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=_names(label))
    for value_of, value in values.items():
        family.add_metric(_names(value_of), value)
    return family


def _histogram(name: str, text: str, values: Mapping[str, Histogram], label: str = "") -> Metric:
    family = HistogramMetricFamily(PREFIX + name, text, labels=_names(label))
    for value_of, histogram in values.items():
        bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
        family.add_metric(_names(value_of), list(zip(bounds, histogram.cumulative, strict=True)), histogram.total)
    return family


def _names(label: str) -> tuple[str, ...]:
    return (label,) if label else ()
