"""The demo's producers, worker and push client; and what breaks them."""

import asyncio
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.message import encode_task, task_id
from peekaping_producer.demo.breakage import PLANTED, Breakage, Event, Restart
from peekaping_producer.demo.child import Child
from peekaping_producer.demo.clock import now_ms
from peekaping_producer.demo.history import History, Totals
from peekaping_producer.demo.judgement import Incidents
from peekaping_producer.demo.ledger import LedgerReader
from peekaping_producer.demo.payload import read_check
from peekaping_producer.demo.queue import message_of, text_of
from peekaping_producer.demo.redis_server import HOST
from peekaping_producer.demo.results import Results
from peekaping_producer.demo.sample import PUSH, Sample
from peekaping_producer.demo.worker import WorkerOptions
from peekaping_producer.errors import ConfigurationError, Unavailable
from peekaping_producer.redisdb.client import load_script
from peekaping_producer.redisdb.keys import DUE, LEASE

_READY_WITHIN_S = 60.0
RESTART_AFTER_S = 1.0
"""How long a killed process stays down."""
_ORPHAN_AFTER_MS = 3_000
"""A dead worker's task counts as running until two seconds after its lease; leases are in whole seconds."""
_POLL_S = 0.05


class Ports(Struct, frozen=True):
    """Where the demo's processes listen, on this machine alone."""

    redis: int
    http: int


def free_port(wanted: int) -> int:
    """Return the port if it is free, else any free one."""
    for port in (wanted, 0):
        with suppress(OSError), socket.create_server((HOST, port)) as listener:
            return int(listener.getsockname()[1])
    raise ConfigurationError("this machine has no free port")


class Stage:
    """The demo's processes, and the history of their checks."""

    def __init__(
        self, folder: Path, ports: Ports, redis: Redis, monitors: Sequence[Sample], nodes: int, *, instant: bool
    ) -> None:
        """Nothing runs yet. `instant`: checks succeed at once, without network access."""
        self._folder, self.ports, self._redis, self._monitors = folder, ports, redis, monitors
        self.instant = instant
        self.history = History(monitors)
        self.events: list[Event] = []
        self.restarts: list[Restart] = []
        self._database = folder / "peekaping.sqlite"
        self._reader = LedgerReader(folder)
        self._nodes: list[Child | None] = [None] * nodes
        self._worker: Child | None = None
        self._workers_started = 0
        self._restart_at_s: dict[int, float] = {}
        self._push_id = next((monitor.id for monitor in monitors if monitor.name == PUSH), None)
        self._push_again_s = 0.0
        self._began_ms, self._began_s = 0, 0.0

    def __enter__(self) -> Self:
        """Open the database, so that its WAL stays in place for the readers."""
        self._results = Results(self._database)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End every process."""
        self.end()
        self._results.__exit__(kind, error, traceback)

    @property
    def elapsed_s(self) -> float:
        """How long ago the schedule was complete."""
        return time.monotonic() - self._began_s

    @property
    def nodes_alive(self) -> int:
        """How many producers run."""
        return sum(node is not None and not node.ended for node in self._nodes)

    async def begin(self, stopping: asyncio.Event) -> bool:
        """Start everything and wait until the schedule contains every monitor; return False if stopped before.

        Raises ConfigurationError if a producer ends, and Unavailable if it takes too long.
        """
        self._push()
        for place in range(len(self._nodes)):
            self._nodes[place] = self._start_node(place)
        self._worker = self._start_worker()
        give_up_s = time.monotonic() + _READY_WITHIN_S
        while await self._redis.zcard(DUE) + await self._redis.zcard(LEASE) < len(self._monitors):
            if stopping.is_set():
                return False
            for child in (*self._nodes, self._worker):
                if child and child.ended:
                    raise ConfigurationError(f"the demo's {child.log.stem} failed to start:", *child.last_lines())
            if time.monotonic() > give_up_s:
                raise Unavailable("redis", f"the schedule was not complete within {_READY_WITHIN_S:g} s")
            await asyncio.sleep(_POLL_S)
        self._began_ms, self._began_s = now_ms(), time.monotonic()
        return True

    def watch(self) -> None:
        """Read the ledgers, push, and restart what has ended."""
        self._read()
        now_s = time.monotonic()
        if self._push_id and now_s >= self._push_again_s:
            self._push()
        for place, node in enumerate(self._nodes):
            if (node is None or node.ended) and self._may_restart(place, now_s):
                self._nodes[place] = self._start_node(place)
                self.restarts.append(Restart(self.elapsed_s, "producer restarted"))
        if (self._worker is None or self._worker.ended) and self._may_restart(-1, now_s):
            self.history.worker_died(now_ms())
            self._worker = self._start_worker()
            self.restarts.append(Restart(self.elapsed_s, "worker restarted"))

    def end(self) -> None:
        """End every process, and read what they wrote."""
        children = [child for child in (*self._nodes, self._worker) if child]
        for child in children:
            child.ask_to_stop()
        for child in children:
            child.stop()
        self._read()

    async def count_queued(self) -> int:
        """Return how many checks in the queue no worker has taken yet."""
        queued = 0
        names = await self._redis.lrange(keys.PENDING, 0, -1)
        for name in names:
            message = await message_of(self._redis, text_of(name))
            if message is not None:
                check = read_check(message.payload)
                queued += check.scheduled_ms > 0 and not self.history.has_taken(check.monitor_id, check.scheduled_ms)
        return queued

    def totals(self, at_ms: int) -> Totals:
        """Judge all runs as of `at_ms`."""
        flushes = tuple(event.at_ms for event in self.events if event.breakage is Breakage.FLUSH)
        deaths = tuple(event.at_ms for event in self.events if event.breakage is Breakage.NODE)
        return self.history.totals(self._began_ms, at_ms, Incidents(flushes, deaths))

    def healed(self) -> int:
        """Return how many monitors were checked again although an old task blocked their id."""
        return sum(self.history.came_back(event.blocked_ids, event.at_ms) for event in self.events)

    def all_back(self) -> bool:
        """Return whether every monitor was checked again after the last breakage that affected it."""
        return all(
            self.history.came_back(event.monitor_ids, event.at_ms) == len(event.monitor_ids) for event in self.events
        )

    async def apply(self, breakage: Breakage) -> bool:
        """Break something now; return False if it is not possible yet, for example if no check is running."""
        at_ms, at_s = now_ms(), self.elapsed_s
        blocked: tuple[str, ...] | None = ()
        match breakage:
            case Breakage.WORKER:
                blocked = await self._kill_worker()
            case Breakage.PLANT:
                blocked = await self._plant() or None
            case Breakage.NODE:
                blocked = self._kill_node()
            case Breakage.FLUSH:
                await self._redis.flushall()
        if blocked is None:
            return False
        # If no id is blocked, all monitors are affected.
        everyone = tuple(str(monitor.id) for monitor in self._monitors)
        self.events.append(Event(at_ms, at_s, breakage, blocked or everyone, blocked))
        return True

    def _kill_node(self) -> tuple[str, ...] | None:
        node = self._nodes[0]
        if node is None or node.ended:
            return None
        node.kill()
        return ()

    async def _kill_worker(self) -> tuple[str, ...] | None:
        """Return the monitors whose checks it was running; None if it runs none."""
        if self._worker is None or self._worker.ended or not await self._redis.llen(keys.ACTIVE):
            return None
        self._worker.kill()
        self._read()
        interrupted = []
        for name in await self._redis.lrange(keys.ACTIVE, 0, -1):
            message = await message_of(self._redis, text_of(name))
            lease_s = await self._redis.zscore(keys.LEASE, name)
            if message is not None and lease_s is not None:
                check = read_check(message.payload)
                until_ms = int(lease_s) * 1000 + _ORPHAN_AFTER_MS
                self.history.interrupted(check.monitor_id, check.scheduled_ms, now_ms(), until_ms)
                interrupted.append(check.monitor_id)
        self.history.worker_died(now_ms())
        return tuple(interrupted)

    async def _plant(self) -> tuple[str, ...]:
        plant = load_script(self._redis, __package__, "plant")
        planted: list[str] = []
        for monitor in self._monitors:
            message = encode_task(monitor.id, monitor.timeout_s, b'{"monitor_type": "demo"}')
            name = task_id(monitor.id)
            if await plant(keys=[keys.ARCHIVED, keys.TASK + name], args=[name, message, now_ms() // 1000]):
                planted.append(str(monitor.id))
            if len(planted) == PLANTED:
                break
        return tuple(planted)

    def _read(self) -> None:
        for entries in self._reader.new_entries():
            self.history.add(entries)

    def _push(self) -> None:
        if self._push_id:
            self._results.push(self._push_id, now_ms())
            self._push_again_s = time.monotonic() + self._monitors[0].interval_s / 2

    def _may_restart(self, place: int, now_s: float) -> bool:
        """Return whether it has been down for long enough; the first call only notes that it is down."""
        if now_s < self._restart_at_s.setdefault(place, now_s + RESTART_AFTER_S):
            return False
        del self._restart_at_s[place]
        return True

    def _start_node(self, place: int) -> Child:
        variables = {
            "DB_TYPE": "sqlite",
            "DB_NAME": str(self._database),
            "REDIS_HOST": HOST,
            "REDIS_PORT": str(self.ports.redis),
            "MODE": "prod",
            "LOG_LEVEL": "info",
            "PRODUCER_CONCURRENCY": "4",
        }
        # The first one is killed by `--break`.
        if place == len(self._nodes) - 1:
            variables["PRODUCER_HTTP_PORT"] = str(self.ports.http)
        return Child(["-m", "peekaping_producer", "run"], self._folder, f"producer-{place + 1}.log", variables)

    def _start_worker(self) -> Child:
        self._workers_started += 1
        options = WorkerOptions(
            redis_port=self.ports.redis,
            database=str(self._database),
            ledger=str(self._folder / f"worker-{self._workers_started}.ledger"),
            instant=self.instant,
        )
        arguments = ["-m", "peekaping_producer.demo.worker", msgspec.json.encode(options).decode()]
        return Child(arguments, self._folder, "worker.log", {})
