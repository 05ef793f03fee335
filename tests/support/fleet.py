"""Several nodes as processes over one Redis and one database, what is done to them, and the verdict of the ledger."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from peekaping_producer.config.settings import DbType
from peekaping_producer.demo.clock import now_ms
from peekaping_producer.redisdb.keys import LEASE
from support.databases import Database, Row
from support.forked import fork_module
from support.go_producer import LEADER
from support.ledger import Death, Ledger, Verdict, worker_options
from support.producer import Producer, environment, started
from support.schedule import scheduled_ids
from support.waiting import until

TAKEN, FOLLOWS = "leadership taken", "another node leads"
WORKER_STOPS_WITHIN_S = 8.0
SETTLED_WITHIN_MS = 300
"""A live node's claim is settled by then; what is still claimed was a dead one's."""


class Fleet:
    """The nodes, the worker, and what was done to them."""

    def __init__(self, folder: Path, database: Database, redis: Redis, port: int, stack: AsyncExitStack) -> None:
        """Describe an empty fleet."""
        self.nodes: list[Producer] = []
        self.ledger = Ledger(folder)
        self.deaths: list[Death] = []
        self.began_ms = 0
        self._folder, self._database, self._redis, self._port, self._stack = folder, database, redis, port, stack

    async def add(self, **variables: object) -> Producer:
        """Start a node; it need not be ready yet."""
        address = addressed(self._database, self._port)
        settings: dict[str, Any] = {**address, "PRODUCER_CONCURRENCY": 4, "LOG_LEVEL": "info", **variables}
        node = await self._stack.enter_async_context(started(self._folder, **settings))
        self.nodes.append(node)
        return node

    def start_worker(self, name: str = "worker", port: int | None = None) -> ForkServerProcess:
        """Start a worker process, which ends with the fleet; `port` is another Redis than the nodes'."""
        options = msgspec.json.encode(worker_options(port or self._port, self._folder, name)).decode()
        log = self._folder / f"{name}.log"
        worker = fork_module(self._folder, environment(), log, "peekaping_producer.demo.worker", options)
        self._stack.callback(stop_worker, worker)
        return worker

    # --- what is seen of it

    async def leader_id(self) -> str:
        """Return what the leader key holds; empty where nobody leads."""
        return text(await self._redis.get(LEADER))

    async def leader(self) -> Producer | None:
        """Return the node that the leader key names, if it is one of these."""
        id_ = await self.leader_id()
        return next((node for node in self.nodes if f"-{node.pid}-" in f"{id_}-"), None)

    async def until_led(self, *, by_other_than: Producer | None = None) -> Producer:
        """Wait until one of the nodes leads; return it."""
        found: Producer | None = None

        async def led() -> bool:
            nonlocal found
            found = await self.leader()
            return found is not None and found is not by_other_than

        await until(led, "a node leads")
        assert found is not None
        return found

    async def until_whole(self, rows: Sequence[Row]) -> None:
        """Wait until the schedule holds exactly these monitors."""
        ids = {row["id"] for row in rows}

        async def whole() -> bool:
            return await scheduled_ids(self._redis) == ids

        await until(whole, "the schedule is whole")

    async def begin(self, rows: Sequence[Row]) -> None:
        """Wait until the schedule is whole and all nodes are at work; the verdict counts from here."""
        await self.until_whole(rows)
        for node in self.nodes:
            await self.until_at_work(node)
        self.began_ms = now_ms()

    async def until_at_work(self, node: Producer) -> None:
        """Wait until a node knows who leads: by then all its loops run."""
        await node.until(lambda: bool(node.logged(FOLLOWS) or node.logged(TAKEN)), "it is at work")

    async def until_ran(self, rows: Sequence[Row], times: int = 1, since_ms: float | None = None) -> None:
        """Wait until each monitor has had this many checks, from now or from an instant on."""
        longest_s = max(row["interval"] for row in rows)
        since_ms = now_ms() if since_ms is None else since_ms
        await self.ledger.until_ran([row["id"] for row in rows], since_ms, times, longest_s * times * 2)

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Judge these monitors from the beginning until now."""
        return self.ledger.verdict(rows, self.began_ms, now_ms(), self.deaths)

    def assert_nobody_noticed(self, rows: Sequence[Row]) -> None:
        """Assert that none of their checks was missed or doubled; raises AssertionError with all warnings."""
        verdict = self.verdict(rows)
        warnings = [
            (line["time"], node.pid, line) for node in self.nodes for line in node.lines if line["level"] != "info"
        ]
        wrong = {"missed": verdict.missed, "doubled": verdict.doubled}
        assert not any(wrong.values()), (
            f"{wrong}, from {self.began_ms}, deaths {self.deaths}; {sorted(warnings, key=str)}"
        )

    # --- what is done to it

    async def kill(self, node: Producer) -> None:
        """End a node as a crash would."""
        node.signal(signal.SIGKILL)
        await node.ended()
        await self.note_death()

    async def end(self) -> None:
        """Ask all nodes to stop at once, and wait until they have."""
        for node in self.nodes:
            with suppress(ProcessLookupError):
                node.signal(signal.SIGCONT)
                node.signal(signal.SIGTERM)
        with suppress(TimeoutError):
            for node in self.nodes:
                await node.ended()

    async def note_death(self) -> None:
        """Note which claims nobody settles any more."""
        at_ms = max(now_ms(), self.began_ms + 1)
        claimed = await self._leases()
        while claimed and now_ms() < at_ms + SETTLED_WITHIN_MS:
            await asyncio.sleep(0.02)
            claimed &= await self._leases()
        self.deaths.append(Death(at_ms, frozenset(claimed)))

    async def _leases(self) -> set[str]:
        return {id_.decode() for id_ in cast("list[bytes]", await self._redis.zrange(LEASE, 0, -1))}


def stop_worker(worker: ForkServerProcess) -> None:
    """Ask a worker to stop and wait; kill it if it takes too long."""
    worker.terminate()
    worker.join(WORKER_STOPS_WITHIN_S)
    worker.kill()
    worker.join()


def addressed(database: Database, redis_port: int) -> dict[str, Any]:
    """Return the variables that lead a node to both."""
    settings = database.settings()
    found: dict[str, Any] = {"DB_TYPE": settings.db_type.value, "DB_NAME": settings.db_name, "REDIS_PORT": redis_port}
    if settings.db_type is not DbType.SQLITE:
        found |= {"DB_HOST": settings.db_host, "DB_PORT": settings.db_port}
        assert settings.db_pass is not None
        found |= {"DB_USER": settings.db_user, "DB_PASS": settings.db_pass.reveal()}
    return found


def text(reply: bytes | str | None) -> str:
    """Return a reply as text; nothing is the empty text."""
    return reply.decode() if isinstance(reply, bytes) else reply or ""


@asynccontextmanager
async def fleet(
    folder: Path, database: Database, redis: Redis, port: int, *, nodes: int = 3, worker: bool = True
) -> AsyncIterator[Fleet]:
    """Run this many nodes and a worker for the duration of the block."""
    async with asyncio.TaskGroup() as group, AsyncExitStack() as stack:
        whole = Fleet(folder, database, redis, port, stack)
        watch = group.create_task(whole.ledger.watch())
        if worker:
            whole.start_worker()
        for _ in range(nodes):
            await whole.add()
        try:
            yield whole
        finally:
            watch.cancel()
            await whole.end()
