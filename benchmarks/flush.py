"""The schedule of many monitors made on an empty Redis, and again after a flush, while checks go on."""

import time
from collections.abc import Iterator, Sequence

from msgspec import Struct
from redis import Redis

from benchmarks.drain import Seen, draining
from benchmarks.figures import Case, cost
from benchmarks.part import STEADY_INTERVAL_S, Bench, Part, Size
from benchmarks.producer import running_producer, wait_until
from benchmarks.steady import scheduled
from peekaping_producer.demo.redis_server import HOST, RedisServer

_WITHIN_S = 600.0


class Rebuilt(Struct, frozen=True):
    """One time that the schedule was made from nothing."""

    seconds: float
    """Until every monitor was in it."""
    first: Seen
    """Directly afterwards."""
    later: Seen
    """And after that."""
    missed: int
    """Checks, from the beginning to the end."""


def measure(bench: Bench) -> Iterator[Case]:
    """Start a node on an empty Redis, then flush that; each time watch how late checks are afterwards."""
    size, monitors = bench.size, bench.size.swept
    database = bench.database("postgres", monitors, STEADY_INTERVAL_S)
    name = f"postgres, {monitors:,} monitors of {STEADY_INTERVAL_S} s"
    with (
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port) as redis,
        draining(server.port) as drain,
    ):

        def rebuilt(began_s: float) -> Rebuilt:
            wait_until(lambda: scheduled(redis) >= monitors, "the schedule is whole", within_s=_WITHIN_S)
            took_s = time.monotonic() - began_s
            meanwhile, first, later = drain.seen(), drain.after(size.after_s), drain.after(size.after_s)
            return Rebuilt(took_s, first, later, meanwhile.missed + first.missed + later.missed)

        began_s = time.monotonic()
        with running_producer(database, server.port, PRODUCER_SCHEDULE="spread"):
            yield _case(f"{name}, first start", size, [rebuilt(began_s)])
            rounds = []
            for _ in range(size.rounds):
                began_s = time.monotonic()
                redis.flushall()
                rounds.append(rebuilt(began_s))
            yield _case(f"{name}, after a flush", size, rounds)


PART = Part("flush", "the schedule rebuilt while checks go on, and their lateness afterwards", 65, measure)


def _case(name: str, size: Size, rounds: Sequence[Rebuilt]) -> Case:
    goals = ("≤ 30", "≤ 100") if size.swept == 1_000_000 else ("", "")
    figures = {
        "schedule_whole": cost([one.seconds for one in rounds], "s", goals[0]),
        "lateness_p99_at_first": cost([one.first.p99_ms for one in rounds], "ms"),
        "lateness_max_at_first": cost([one.first.max_ms for one in rounds], "ms"),
        "lateness_p99_later": cost([one.later.p99_ms for one in rounds], "ms", goals[1]),
        "lateness_max_later": cost([one.later.max_ms for one in rounds], "ms"),
    }
    if 2 * size.after_s > STEADY_INTERVAL_S:  # a missed check shows in the next one
        figures["missed"] = cost([one.missed for one in rounds], "checks")
    return Case(name, figures)
