"""The idle cost: what a producer does while nothing is due."""

import threading
import time
from collections.abc import Iterator
from typing import Self

from redis import Redis

from benchmarks.database import Database
from benchmarks.figures import Case, cost
from benchmarks.part import FAR_INTERVAL_S, IDLE_MONITORS, Bench, Part, Size
from benchmarks.producer import running_producer, until_swept
from peekaping_producer.demo.redis_server import HOST, RedisServer


def measure(bench: Bench) -> Iterator[Case]:
    """Watch a producer whose monitors are due in years, with each concurrency."""
    database = bench.database("postgres", IDLE_MONITORS, FAR_INTERVAL_S)
    for concurrency in bench.size.idle:
        yield _case(database, concurrency, bench.size)


PART = Part("idle", "a producer with nothing to do: commands to Redis, CPU, memory", 38, measure)


def _case(database: Database, concurrency: int, size: Size) -> Case:
    sent: list[float] = []
    with_scripts: list[float] = []
    cpu_percent: list[float] = []
    with (
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port) as redis,
        running_producer(database, server.port, concurrency) as producer,
    ):
        until_swept(redis, len(database.ids))
        # A fresh node's first second is not idle: scripts are loaded, caches filled.
        time.sleep(min(2.0, size.idle_s))
        for _ in range(size.rounds):
            with _Watch(server.port) as watch:
                before, began_s = producer.cost(), time.monotonic()
                time.sleep(size.idle_s)
                after, took_s = producer.cost(), time.monotonic() - began_s
            sent.append(watch.sent / took_s)
            with_scripts.append((watch.sent + watch.in_scripts) / took_s)
            cpu_percent.append(100 * (after.cpu_s - before.cpu_s) / took_s)
    figures = {
        "commands_sent_to_redis": cost(sent, "/s"),
        "commands_in_scripts_too": cost(with_scripts, "/s", "≤ 8"),
        "node_cpu": cost(cpu_percent, "% of a core", "≤ 1"),
        "node_peak_memory": cost(after.peak_memory_bytes / 1e6, "MB"),
    }
    return Case(f"{len(database.ids)} monitors, concurrency {concurrency}", figures)


class _Watch:
    """Counts by MONITOR the commands that clients send, and those that scripts call."""

    END = "end of the watch"

    def __init__(self, port: int) -> None:
        self.sent = 0
        self.in_scripts = 0
        self._port = port
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(self, *_error: object) -> None:
        with Redis(host=HOST, port=self._port, lib_name=None, lib_version=None) as redis:
            redis.echo(self.END)
        self._thread.join()

    def _listen(self) -> None:
        with Redis(host=HOST, port=self._port) as redis, redis.monitor() as monitor:
            self._listening.set()
            for entry in monitor.listen():
                if self.END in entry["command"]:
                    return
                if entry["client_type"] == "lua":
                    self.in_scripts += 1
                elif not entry["command"].startswith(("HELLO", "CLIENT")):
                    self.sent += 1
