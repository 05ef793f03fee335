"""The idle cost: what a producer does while nothing is due."""

import threading
import time
from typing import Self

import psutil
from msgspec import Struct
from redis import Redis

from benchmarks.database import Database
from benchmarks.producer import running_producer, wait_until
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.redisdb.keys import DUE


class Idle(Struct, frozen=True):
    """What an idle producer costs."""

    concurrency: int
    seconds: float
    """How long it was watched."""
    commands_per_s: float
    """Commands sent to Redis; what scripts call inside is not counted."""
    cpu_percent_of_core: float
    peak_memory_bytes: int


def measure_idle(database: Database, concurrency: int, seconds: float) -> Idle:
    """Watch a producer whose monitors are due in days."""
    with (
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port) as redis,
        running_producer(database, server.port, concurrency) as producer,
    ):
        wait_until(lambda: redis.zcard(DUE) == len(database.ids), "the first sweep is done")
        # A fresh node's first second is not idle: scripts are loaded, caches filled.
        time.sleep(min(2.0, seconds))
        process = psutil.Process(producer.pid)
        with _Watch(server.port) as watch:
            before, started_s = process.cpu_times(), time.monotonic()
            time.sleep(seconds)
            after, took_s = process.cpu_times(), time.monotonic() - started_s
        cpu_s = after.user + after.system - before.user - before.system
        percent = max(0.0, 100 * cpu_s / took_s)
        return Idle(concurrency, took_s, watch.commands / took_s, percent, producer.cost().peak_memory_bytes)


class _Watch:
    """Counts the commands that clients send, by MONITOR."""

    END = "end of the watch"

    def __init__(self, port: int) -> None:
        self.commands = 0
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
                own = entry["command"].startswith(("HELLO", "CLIENT"))
                self.commands += entry["client_type"] != "lua" and not own
