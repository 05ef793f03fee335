"""What a worker saw, and the verdict on it (G1): which checks were missed, which were doubled."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path

from msgspec import Struct
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from peekaping_producer.demo.checks import http_client
from peekaping_producer.demo.clock import now_ms
from peekaping_producer.demo.judgement import Incidents, Run, judge
from peekaping_producer.demo.ledger import LedgerReader, LedgerWriter, Taken
from peekaping_producer.demo.queue import Queue
from peekaping_producer.demo.redis_server import HOST
from peekaping_producer.demo.results import Results
from peekaping_producer.demo.worker import Worker, WorkerOptions
from peekaping_producer.model.cadence import cadence
from peekaping_producer.model.monitor import MonitorId
from support.databases import Row, sqlite_copy
from support.waiting import WITHIN_S, until

_TICK_S = 0.05
_LATE_MS = 5
_MAY_BE_LATE_MS = 250
"""A check, on a busy machine, without a stall."""
_STALLED_MS = 300


class Death(Struct, frozen=True):
    """A node died, or was cut off, while it held claims: until they end, its monitors wait (judgement.Incidents)."""

    at_ms: int
    claimed: frozenset[str] | None
    """The monitors it had claimed; None: it may have been any."""


class Verdict(Struct, frozen=True):
    """The judgement of all monitors together: how many runs, and a line for each monitor with a problem."""

    runs: int
    missed: tuple[str, ...]
    doubled: tuple[str, ...]


class Ledger:
    """Every task that workers took, by monitor, read from their files as they grow."""

    def __init__(self, folder: Path) -> None:
        """Read the ledgers of a folder; there need be none yet."""
        self._reader = LedgerReader(folder)
        self._taken: defaultdict[str, list[Taken]] = defaultdict(list)
        self._finished_ms: dict[tuple[str, int], int] = {}
        self._late_ms: list[tuple[int, float]] = []
        """When a tick of ours came late, and by how much."""
        self._stalls_ms: list[int] = []
        """When this machine did not let us run for a while: what comes late by that is nobody's fault."""

    async def watch(self) -> None:
        """Look for stalls, until cancelled."""
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(_TICK_S)
            late_ms = (time.monotonic() - began_s - _TICK_S) * 1000
            if late_ms > _LATE_MS:
                self._late_ms.append((now_ms(), late_ms))
            if late_ms > _STALLED_MS:
                self._stalls_ms.append(now_ms())

    def lost_ms(self, since_ms: float) -> float:
        """Return how long a busy machine has kept this process, and so the others, from running since an instant."""
        return sum(late_ms for at_ms, late_ms in self._late_ms if at_ms > since_ms)

    def read(self) -> None:
        """Read on."""
        for entries in self._reader.new_entries():
            for entry in entries:
                if isinstance(entry, Taken):
                    self._taken[entry.monitor_id].append(entry)
                else:
                    self._finished_ms[entry.monitor_id, entry.scheduled_ms] = entry.finished_ms

    def scheduled(self, id_: str) -> list[int]:
        """Return `scheduled_at` of a monitor's tasks, in order; those taken back before they were taken left out."""
        return sorted(task.scheduled_ms for task in self._taken[id_] if task.scheduled_ms)

    def stale(self, scheduled_before_ms: int, taken_after_ms: int) -> list[Taken]:
        """Return the tasks of slots before one instant that a worker got to see only after another."""
        self.read()
        tasks = (task for tasks in self._taken.values() for task in tasks)
        return [task for task in tasks if task.scheduled_ms < scheduled_before_ms and task.taken_ms > taken_after_ms]

    def ran_since(self, ids: Iterable[str], since_ms: float, times: int = 1) -> bool:
        """Return whether each monitor has had this many checks of slots after an instant."""
        return all(sum(at_ms > since_ms for at_ms in self.scheduled(id_)) >= times for id_ in ids)

    async def until_ran(self, ids: Iterable[str], since_ms: float, times: int = 1, within_s: float = 0) -> None:
        """Wait until each has; raises AssertionError that names those that have not."""
        ids = list(ids)
        await self.until(
            lambda: self.ran_since(ids, since_ms, times),
            lambda: f"no {times} checks of {[id_ for id_ in ids if not self.ran_since([id_], since_ms, times)]}",
            within_s,
        )

    async def until(self, condition: Callable[[], bool], what: Callable[[], str], within_s: float = 0) -> None:
        """Wait until `condition` holds; it is checked after each read."""

        def holds() -> bool:
            self.read()
            return condition()

        await until(holds, what, within_s + WITHIN_S)

    def verdict(
        self,
        rows: Iterable[Row],
        began_ms: int,
        ended_ms: int,
        deaths: Sequence[Death] = (),
        *,
        slow_excused: bool = True,
    ) -> Verdict:
        """Judge each of these monitors between two instants, on its own grid.

        A slow settle excuses a slot that it skipped, except where periods are too long for that.
        """
        self.read()
        missed, doubled, count = [], [], 0
        for row in rows:
            id_, interval = row["id"], row["interval"]
            runs = [
                Run(at_ms, self._finished_ms.get((id_, at_ms), ended_ms))
                for at_ms in self.scheduled(id_)
                if began_ms <= at_ms <= ended_ms
            ]
            hit = [death.at_ms for death in deaths if death.claimed is None or id_ in death.claimed]
            stalls = self._stalls_of(id_) if slow_excused else self._stalls_ms
            incidents = Incidents(node_deaths_ms=(*hit, *stalls))
            judged = judge(cadence(MonitorId(id_), interval), runs, began_ms, ended_ms, incidents)
            ran = [run.scheduled_ms - began_ms for run in runs]
            line = f"{id_}, every {interval} s, for {ended_ms - began_ms} ms: {ran}, late {judged.lateness_ms}"
            missed += [line] * bool(judged.missed)
            doubled += [line] * bool(judged.doubled)
            count += len(runs)
        return Verdict(count, tuple(missed), tuple(doubled))

    def too_close(self, rows: Iterable[Row], since_ms: int = 0) -> list[str]:
        """Return a line for each two checks of a monitor closer than half its period, whatever grid they lie on.

        Slots never are that close, but the first of two checks may be a little late.
        """
        return [
            gap
            for row in rows
            for gap, periods in self._gaps(row, self._ran(row, since_ms))
            if periods < 0.5 - _MAY_BE_LATE_MS / 1000 / row["interval"]
        ]

    def too_far(self, rows: Iterable[Row], since_ms: int, until_ms: int, at_most: float) -> list[str]:
        """Return a line for each time without a check that is longer than this many periods."""
        return [
            gap
            for row in rows
            for gap, periods in self._gaps(row, [since_ms, *self._ran(row, since_ms, until_ms), until_ms])
            if periods > at_most
        ]

    def _ran(self, row: Row, since_ms: int, until_ms: float = float("inf")) -> list[int]:
        self.read()
        return [at_ms for at_ms in self.scheduled(row["id"]) if since_ms <= at_ms <= until_ms]

    def _stalls_of(self, id_: str) -> list[int]:
        """Return the stalls that a monitor's checks may suffer from: a slow settle skips a slot of a short period."""
        slow = [task.taken_ms for task in self._taken[id_] if task.taken_ms - task.scheduled_ms > _STALLED_MS]
        return [*self._stalls_ms, *slow]

    def _gaps(self, row: Row, instants: Sequence[int]) -> Iterator[tuple[str, float]]:
        """Yield each gap in words and in periods, but those that a stall in them, or just before them, explains."""
        period_ms, stalls_ms = row["interval"] * 1000, self._stalls_of(row["id"])
        for earlier, later in pairwise(instants):
            if not any(earlier - period_ms < stall_ms <= later + _STALLED_MS for stall_ms in stalls_ms):
                words = f"{row['id']}, every {row['interval']} s: {earlier}, and {later - earlier} ms later"
                yield words, (later - earlier) / period_ms


def worker_options(redis_port: int, folder: Path, name: str = "worker") -> WorkerOptions:
    """Return the options of a worker that gives every verdict at once and keeps its results in a file of its own."""
    results = folder / "results.sqlite"
    if not results.exists():
        sqlite_copy(folder, rows=False, name=results.name)
    return WorkerOptions(redis_port, str(results), str(folder / f"{name}.ledger"), instant=True)


@asynccontextmanager
async def working(redis_port: int, folder: Path) -> AsyncIterator[Ledger]:
    """Run a worker in this process for the duration of the block; give its ledger."""
    options = worker_options(redis_port, folder)
    with _book(options) as book, Results(Path(options.database)) as results:
        async with (
            Redis(
                host=HOST, port=redis_port, retry=Retry(NoBackoff(), 0), socket_timeout=10, client_name="test-worker"
            ) as client,
            http_client() as http,
            asyncio.TaskGroup() as group,
        ):
            worker, ledger = Worker(options, Queue(client, options.concurrency), results, book), Ledger(folder)
            group.create_task(worker.run(http))
            watch = group.create_task(ledger.watch())
            try:
                yield ledger
            finally:
                watch.cancel()
                worker.stop()


@contextmanager
def _book(options: WorkerOptions) -> Iterator[LedgerWriter]:
    book = LedgerWriter(Path(options.ledger))
    try:
        yield book
    finally:
        book.close()
