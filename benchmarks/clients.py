"""What clients of the HTTP server cost the checks: in one run, the same load alternately without and with them."""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import httpx
from redis import Redis

from benchmarks.crowd import PAGES, SCRAPERS
from benchmarks.figures import Case, cost, percentile, rate
from benchmarks.helper import helping
from benchmarks.herd import PAGE, RATE, empty_queue, rate_per_s
from benchmarks.part import HERD_INTERVAL_S, Bench, Part
from benchmarks.producer import running_producer, until_swept, used_by, wait_until
from peekaping_producer.asynq import keys as asynq
from peekaping_producer.asynq.message import task_id
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import DUE, LEASE
from support.server_process import free_port

STEADY_PER_S = 500
LEAD_S = 1.5
"""A producer that has nothing to do reads the schedule again within a second."""


def measure(bench: Bench) -> Iterator[Case]:
    """Run herds and steady loads, each without clients and with them; what drifts meanwhile affects both alike."""
    size, port = bench.size, free_port()
    database = bench.database("postgres", size.monitors[0], HERD_INTERVAL_S)
    rates: dict[bool, list[float]] = {False: [], True: []}
    p99_ms: dict[bool, list[float]] = {False: [], True: []}
    cpu_percent: list[float] = []
    steady_ids = database.ids[: max(1, min(len(database.ids), round(STEADY_PER_S * size.watched_s)))]
    with (
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port, decode_responses=False) as redis,
        running_producer(database, server.port, PRODUCER_HTTP_PORT=str(port)),
    ):
        until_swept(redis, len(database.ids))
        wait_until(lambda: _answers(port), "the producer serves HTTP")
        rate_per_s(redis, database)
        for number in range(2 * size.rounds):
            watched = number % 4 in {1, 2}
            with _clients(port, cpu_percent) if watched else nullcontext():
                rates[watched].append(rate_per_s(redis, database))
                p99_ms[watched].append(_steady_p99_ms(redis, steady_ids, size.watched_s))
    for watched, name in ((False, "alone"), (True, f"with {SCRAPERS} scrapers and {PAGES} open pages")):
        figures = {RATE: rate(rates[watched]), "lateness_p99": cost(p99_ms[watched], "ms")}
        if watched:
            lost = 100 * (1 - statistics.median(rates[True]) / statistics.median(rates[False]))
            figures["of_its_rate_lost"] = cost(lost, "%", "≤ 3")
            figures["lateness_p99_added"] = cost(
                statistics.median(p99_ms[True]) - statistics.median(p99_ms[False]), "ms", "≤ 5"
            )
            figures["clients_cpu"] = cost(cpu_percent, "% of a core")
        yield Case(f"postgres, {len(database.ids):,} monitors, {name}", figures)


PART = Part("clients", "scrapers and open pages: what they cost the checks", 50, measure)


def _steady_p99_ms(redis: Redis, ids: Sequence[MonitorId], seconds: float) -> float:
    """Make monitors due evenly over some seconds; return the 99th percentile of their lateness."""
    empty_queue(redis, ids)
    first_ms = time.time_ns() / 1e6 + LEAD_S * 1000
    due_ms: dict[str, float] = {id_: first_ms + number * seconds * 1000 / len(ids) for number, id_ in enumerate(ids)}
    redis.zadd(DUE, due_ms)
    last_ms = max(due_ms.values())
    wait_until(lambda: not redis.zcount(DUE, "-inf", last_ms) and not redis.zcard(LEASE), "all checks are settled", 0.1)
    late_ms: list[float] = []
    for start in range(0, len(ids), PAGE):
        page = ids[start : start + PAGE]
        with redis.pipeline(transaction=False) as pipe:
            for id_ in page:
                pipe.hget(asynq.TASK + task_id(id_), "pending_since")
            late_ms += [
                int(since_ns) / 1e6 - due_ms[id_]
                for id_, since_ns in zip(page, pipe.execute(), strict=True)
                if since_ns
            ]
    return percentile(late_ms, 99)


@contextmanager
def _clients(port: int, cpu_percent: list[float]) -> Iterator[None]:
    """Run the clients for the duration of the block; note what they take."""
    with helping("benchmarks.crowd", str(port)) as process:
        began_s, before = time.monotonic(), used_by(process.pid)
        yield
        after, took_s = used_by(process.pid), time.monotonic() - began_s
        cpu_percent.append(100 * (after.cpu_s - before.cpu_s) / took_s)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/livez", trust_env=False, timeout=5).is_success
    except httpx.TransportError:
        return False
