"""The leader's comparison of many monitors with the schedule: an empty one to fill, then one with nothing to change."""

import time
from collections.abc import Iterator

from redis import Redis

from benchmarks.database import Database
from benchmarks.figures import Case, Figure, cost
from benchmarks.part import FAR_INTERVAL_S, Bench, Part
from benchmarks.producer import log_lines, running_producer, until_swept, wait_until
from peekaping_producer.demo.redis_server import HOST, RedisServer

_NOTHING_TO_CHANGE = "sweep changed nothing"
_WITHIN_S = 300.0


def measure(bench: Bench) -> Iterator[Case]:
    """Let a producer fill the schedule, then sweep again and again with nothing to change; no check is due."""
    database = bench.database("postgres", bench.size.swept, FAR_INTERVAL_S)
    yield Case(f"postgres, {bench.size.swept:,} monitors", _figures(database, bench.size.rounds))


PART = Part("sync", "the schedule filled from an empty Redis; a sweep with nothing to change", 25, measure)


def _figures(database: Database, rounds: int) -> dict[str, Figure]:
    began_s = time.monotonic()
    with (
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port) as redis,
        running_producer(database, server.port, LOG_LEVEL="debug") as producer,
    ):

        def swept() -> list[float]:
            return [line["seconds"] for line in log_lines(producer.log, _NOTHING_TO_CHANGE)]

        until_swept(redis, len(database.ids), _WITHIN_S)
        filled_s = time.monotonic() - began_s
        wait_until(lambda: bool(log_lines(producer.log, "sweep finished")), "the first sweep is done")
        filled = producer.cost()
        cpu_s: list[float] = []
        for _ in range(rounds):
            before = producer.cost()
            # A new subscription is followed by a sweep.
            redis.client_kill_filter(_type="pubsub")
            wait_until(lambda: len(swept()) > len(cpu_s), "the next sweep is done", 0.1, _WITHIN_S)
            cpu_s.append(producer.cost().cpu_s - before.cpu_s)
        return {
            "schedule_filled": cost(filled_s, "s", _goal(database, "≤ 30")),
            "of_that_leader_cpu": cost(filled.cpu_s, "s"),
            "nothing_to_change": cost(swept(), "s"),
            "nothing_to_change_leader_cpu": cost(cpu_s, "s"),
            "node_peak_memory": cost(producer.cost().peak_memory_bytes / 1e6, "MB"),
        }


def _goal(database: Database, goal: str) -> str:
    return goal if len(database.ids) == 1_000_000 else ""
