"""Real producers, and a worker whose ledger says whether an outage of the database cost any check."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from redis.asyncio import Redis

from peekaping_producer.demo.book import Book, Totals
from peekaping_producer.demo.child import Child
from peekaping_producer.demo.clock import now_ms
from peekaping_producer.demo.judgement import Incidents
from peekaping_producer.demo.ledger import LedgerReader, Taken
from peekaping_producer.demo.sample import Sample
from peekaping_producer.demo.worker import WorkerOptions
from peekaping_producer.monitor import MonitorId
from peekaping_producer.schedule.keys import DUE
from support.databases import Database, Row, sqlite_copy
from support.producer import Producer, started

WITHIN_S = 40.0


class Scene:
    """Producers on one database and one Redis, and what the worker has seen of their monitors."""

    def __init__(self, folder: Path, database: Database, redis: Redis, redis_port: int, rows: Sequence[Row]) -> None:
        self.redis = redis
        self.monitors = [MonitorId(row["id"]) for row in rows]
        self.runs: dict[str, list[int]] = {}
        """By monitor, the instants of the checks that the worker took, Unix ms."""
        self._book = Book([_sample(row) for row in rows])
        self._folder = folder
        self._redis_port = redis_port
        self._settings = database.settings()
        self._reader = LedgerReader(folder)
        self._stack = AsyncExitStack()

    async def start(self) -> Producer:
        """Start one more producer."""
        settings = self._settings
        variables: dict[str, Any] = {
            "DB_TYPE": settings.db_type,
            "DB_NAME": settings.db_name,
            "REDIS_PORT": self._redis_port,
        }
        if settings.db_host:
            server = {"HOST": settings.db_host, "PORT": settings.db_port, "USER": settings.db_user, "PASS": "any"}
            variables |= {f"DB_{name}": value for name, value in server.items()}
        return await self._stack.enter_async_context(started(self._folder, **variables))

    def read(self) -> None:
        """Take in what the worker wrote."""
        for entries in self._reader.new_entries():
            self._book.add(entries)
            for entry in entries:
                if isinstance(entry, Taken):
                    self.runs.setdefault(entry.monitor_id, []).append(entry.scheduled_ms)

    def last_run_ms(self, id_: str) -> int:
        """Return the instant of the newest check of a monitor; 0 if there was none."""
        return max(self.runs.get(id_, ()), default=0)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until what the worker wrote fulfils a condition."""
        try:
            async with asyncio.timeout(WITHIN_S):
                while True:
                    self.read()
                    if condition():
                        return
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not within {WITHIN_S:g} s: {what}") from None

    async def until_each_has_run(self, ids: Sequence[str], after_ms: int | None = None) -> None:
        """Wait until each of these has been checked, by a claim after `after_ms` (default: now)."""
        from_ms = now_ms() if after_ms is None else after_ms
        await self.until(lambda: all(self.last_run_ms(id_) > from_ms for id_ in ids), "each has run")

    async def make_due(self, id_: str) -> None:
        """Put one into the schedule, due at once, as a sweep would."""
        await self.redis.zadd(DUE, {id_: now_ms()})

    def judged(self, began_ms: int, ended_ms: int) -> Totals:
        """Judge the monitors that are here to be judged by their runs between two instants."""
        self.read()
        return self._book.totals(began_ms, ended_ms, Incidents())

    def runs_between(self, ids: Sequence[str], from_ms: int, to_ms: int) -> int:
        """Count the checks of these that were claimed between two instants."""
        self.read()
        return sum(from_ms < at_ms < to_ms for id_ in ids for at_ms in self.runs.get(id_, ()))


@asynccontextmanager
async def scene(
    folder: Path, database: Database, redis: Redis, redis_port: int, rows: Sequence[Row], others: Sequence[Row] = ()
) -> AsyncIterator[Scene]:
    """Fill the database, and run a worker for the time of the block; producers that were started end with it.

    `rows` are the monitors to be judged, `others` are there beside them.
    """
    await database.insert("monitors", *rows, *others)
    results = sqlite_copy(folder, rows=False, name="results.sqlite")
    options = WorkerOptions(redis_port, str(results.path), str(folder / "worker.ledger"), instant=True)
    arguments = ["-m", "peekaping_producer.demo.worker", msgspec.json.encode(options).decode()]
    worker = Child(arguments, folder, "worker.log", {})
    try:
        stage = Scene(folder, database, redis, redis_port, rows)
        async with stage._stack:
            yield stage
        assert not worker.ended, worker.last_words()
    finally:
        worker.stop()


def _sample(row: Row) -> Sample:
    return Sample(MonitorId(row["id"]), row["name"], row["type"], row["config"], row["interval"], row["timeout"])
