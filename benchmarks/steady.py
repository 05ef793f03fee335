"""The steady load: monitors with an interval of a minute, spread evenly, and a drain in place of workers."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec
from msgspec import Struct
from redis import Redis

from benchmarks.database import Database
from benchmarks.drain import RunningDrain, Seen, draining
from benchmarks.figures import Case, Figure, cost, rate
from benchmarks.part import STEADY_INTERVAL_S, Bench, Part
from benchmarks.producer import CpuTimes, Producer, running_producer, wait_until
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.redisdb.keys import DUE, LEASE

_WINDOWS = 6
"""Rounds that the time is divided into."""
_WITHIN_S = 600.0
_ON_TIME_MS = 250
"""The measurement begins when nothing is overdue by more: what was late during the first sweep has been checked."""
_CATCH_UP_S = 120.0
"""Or after this time, where so many monitors are too much."""
_GOALS = {
    100_000: {"missed": "0", "lateness_p99": "≤ 25", "node_cpu": "≤ 7"},
    1_000_000: {
        "missed": "0",
        "lateness_p99": "≤ 70",
        "lateness_max": "≤ 300",
        "node_cpu": "≤ 50",
        "node_peak_memory": "≤ 200",
    },
    1_500_000: {"missed": "0", "lateness_p99": "≤ 150", "node_peak_memory": "≤ 250"},
}


class Window(Struct, frozen=True):
    """Some seconds of the load: what the tasks say, and the processor time of each process."""

    seen: Seen
    cpu_percent: dict[str, float]
    """Of a core."""


def measure(bench: Bench) -> Iterator[Case]:
    """Run each load; sweeps and polls for changes run as always."""
    for monitors in bench.size.steady_monitors:
        database = bench.database("postgres", monitors, STEADY_INTERVAL_S)
        yield _case(database, bench.size.steady_s)


PART = Part("steady", f"monitors of {STEADY_INTERVAL_S} s: lateness, missed checks, CPU and memory", 65, measure)


def scheduled(redis: Redis) -> int:
    """Return how many monitors are in the schedule."""
    return int(redis.zcard(DUE) + redis.zcard(LEASE))


def _overdue(redis: Redis, by_ms: float) -> int:
    """Return how many monitors have been due for longer than this."""
    return int(redis.zcount(DUE, "-inf", time.time() * 1000 - by_ms))


def _case(database: Database, seconds: float) -> Case:
    monitors = len(database.ids)
    with (
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port) as redis,
        draining(server.port) as drain,
        running_producer(database, server.port, PRODUCER_SCHEDULE="spread") as producer,
    ):
        wait_until(lambda: scheduled(redis) >= monitors, "the first sweep has added all", within_s=_WITHIN_S)
        with suppress(TimeoutError):
            wait_until(lambda: not _overdue(redis, _ON_TIME_MS), "nothing is late any more", within_s=_CATCH_UP_S)
        pids = {"node": producer.pid, "redis": server.pid, "drain": drain.pid}
        if database.pid:
            pids["database"] = database.pid
        drain.seen()
        windows = [_window(drain, pids, seconds / _WINDOWS) for _ in range(_WINDOWS)]
        # What is overdue by more than its interval is missed, though no task shows it yet.
        unseen = _overdue(redis, STEADY_INTERVAL_S * 1000)
        memory = redis.info("memory")["used_memory"]
        return Case(
            f"postgres, {monitors:,} monitors", _figures(windows, producer, monitors, unseen, memory / monitors)
        )


def _window(drain: RunningDrain, pids: dict[str, int], seconds: float) -> Window:
    cpu = CpuTimes(pids)
    seen = drain.after(seconds)
    return Window(seen, {name: 100 * used_s / seen.seconds for name, used_s in cpu.used_s().items()})


def _figures(
    windows: Sequence[Window], producer: Producer, monitors: int, unseen: int, redis_bytes: float
) -> dict[str, Figure]:
    seen = [window.seen for window in windows]
    figures = {
        "checks": rate([one.checks / one.seconds for one in seen]),
        "lateness_p50": cost([one.p50_ms for one in seen], "ms"),
        "lateness_p99": cost([one.p99_ms for one in seen], "ms"),
        "lateness_max": cost(max(one.max_ms for one in seen), "ms"),
        "missed": cost(sum(one.missed for one in seen) + unseen, "checks"),
        "doubled": cost(sum(one.doubled for one in seen), "checks"),
    }
    for name in windows[0].cpu_percent:
        figures[f"{name}_cpu"] = cost([window.cpu_percent[name] for window in windows], "% of a core")
    figures["node_peak_memory"] = cost(producer.cost().peak_memory_bytes / 1e6, "MB")
    figures["redis_memory"] = cost(redis_bytes, "bytes a monitor")
    goals = _GOALS.get(monitors, {})
    return {name: msgspec.structs.replace(one, goal=goals.get(name, "")) for name, one in figures.items()}
