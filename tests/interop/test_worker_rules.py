"""The demo's worker and Go's real asynq server keep the same rules: each test runs against both."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Literal, Protocol

import msgspec
import pytest
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.demo.clock import now_ms
from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.demo.sample import create_database
from peekaping_producer.demo.worker import WorkerOptions
from support.asynq_peer import AsynqPeer, Inspection
from support.forked import fork_module
from support.tcp_forwarding import serving

MONITOR = "11111111-1111-4111-8111-111111111111"
TASK = f"healthcheck:{MONITOR}"
Behaviour = Literal["succeed", "fail", "hang"]


class Server(Protocol):
    """A worker process, whichever it is."""

    @property
    def pid(self) -> int: ...
    async def kill(self) -> None: ...


class Worker(Protocol):
    """What makes a worker behave in a certain way, and runs it."""

    def payload(self, behaviour: Behaviour) -> str: ...
    def serve(self, behaviour: Behaviour) -> AbstractAsyncContextManager[Server]: ...


class GoWorker:
    """Go's real asynq server: its handler behaves as asked, whatever the payload."""

    def __init__(self, peer: AsynqPeer) -> None:
        self._peer = peer

    def payload(self, behaviour: Behaviour) -> str:
        del behaviour
        return _payload("http://127.0.0.1/")

    @asynccontextmanager
    async def serve(self, behaviour: Behaviour) -> AsyncIterator[Server]:
        delay_ms = 60_000 if behaviour == "hang" else 0
        async with self._peer.serve(delay_ms=delay_ms, fail=behaviour == "fail") as server:
            yield server


class DemoWorker:
    """The demo's worker: it runs real checks, so the payload decides."""

    def __init__(self, folder: Path, redis_port: int, healthy_port: int, hanging_port: int) -> None:
        self._folder, self._database = folder, folder / "peekaping.sqlite"
        self._starts = 0
        self._redis_port, self._healthy_port, self._hanging_port = redis_port, healthy_port, hanging_port
        create_database(self._database, [], now_ms())

    def payload(self, behaviour: Behaviour) -> str:
        match behaviour:
            case "succeed":
                return _payload(f"http://127.0.0.1:{self._healthy_port}/")
            case "hang":
                return _payload(f"http://127.0.0.1:{self._hanging_port}/")
            case "fail":
                return _payload("http://127.0.0.1/").replace('"interval":60', '"interval":60.0')

    @asynccontextmanager
    async def serve(self, behaviour: Behaviour) -> AsyncIterator[Server]:
        del behaviour
        self._starts += 1
        ledger = str(self._folder / f"{self._starts}.ledger")
        options = WorkerOptions(
            redis_port=self._redis_port, database=str(self._database), ledger=ledger, concurrency=10
        )
        log = self._folder / f"{self._starts}.log"
        command = ("peekaping_producer.demo.worker", msgspec.json.encode(options).decode())
        process = fork_module(self._folder, os.environ, log, *command)
        try:
            yield _Process(process)
        finally:
            if process.exitcode is None:
                process.terminate()
            await asyncio.to_thread(process.join, 10)
            assert process.exitcode in (0, -9), log.read_text()


class _Process:
    def __init__(self, process: ForkServerProcess) -> None:
        assert process.pid is not None
        self._process = process
        self.pid: int = process.pid

    async def kill(self) -> None:
        self._process.kill()
        await asyncio.to_thread(self._process.join)


def _payload(url: str) -> str:
    fields = {
        "monitor_id": MONITOR,
        "monitor_name": "front page",
        "monitor_type": "http",
        "interval": 60,
        "timeout": 50,
        "config": msgspec.json.encode({"url": url}).decode(),
        "scheduled_at": datetime.now(UTC),
        "is_under_maintenance": False,
    }
    return msgspec.json.encode(fields).decode()


async def _healthy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()


@contextmanager
def _hanging() -> Iterator[int]:
    """Listen and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture(params=["go", "demo"])
async def worker(
    request: pytest.FixtureRequest, asynq_peer: AsynqPeer, redis_server: RedisServer, tmp_path: Path
) -> AsyncIterator[Worker]:
    """Return each of the two in turn."""
    if request.param == "go":
        yield GoWorker(asynq_peer)
        return
    async with serving(_healthy) as healthy_port:
        with _hanging() as hanging_port:
            yield DemoWorker(tmp_path, redis_server.port, healthy_port, hanging_port)


def is_gone(seen: Inspection) -> bool:
    """Return whether there is no such task, and the queue counts one as processed."""
    return seen.task is None and seen.queue is not None and seen.queue.processed == 1


def is_active(seen: Inspection) -> bool:
    """Return whether the task is being worked on."""
    return seen.task is not None and seen.task.state == "active"


def is_archived(seen: Inspection) -> bool:
    """Return whether the task has failed permanently, and the queue counts one as processed and failed."""
    if seen.task is None or seen.queue is None:
        return False
    return (seen.task.state, seen.queue.processed, seen.queue.failed) == ("archived", 1, 1)


async def test_a_task_is_taken_and_done(worker: Worker, asynq_peer: AsynqPeer, redis: Redis) -> None:
    await asynq_peer.enqueue(TASK, worker.payload("succeed"))
    async with worker.serve("succeed"):
        seen = await asynq_peer.inspect_until(is_gone, TASK)
    assert seen.queue is not None
    assert seen.queue.failed == 0
    assert not await redis.exists(keys.TASK + TASK, keys.ACTIVE, keys.LEASE)


async def test_a_running_task_is_active_with_a_lease(worker: Worker, asynq_peer: AsynqPeer, redis: Redis) -> None:
    await asynq_peer.enqueue(TASK, worker.payload("hang"))
    async with worker.serve("hang"):
        seen = await asynq_peer.inspect_until(is_active, TASK)
        lease_s = await redis.zscore(keys.LEASE, TASK)
        fields = await redis.hkeys(keys.TASK + TASK)
    assert seen.task is not None
    assert not seen.task.orphaned
    assert lease_s is not None
    assert 25 < lease_s - now_ms() / 1000 <= 30
    assert b"pending_since" not in fields


async def test_a_failed_task_is_archived(worker: Worker, asynq_peer: AsynqPeer, redis: Redis) -> None:
    await asynq_peer.enqueue(TASK, worker.payload("fail"))
    async with worker.serve("fail"):
        seen = await asynq_peer.inspect_until(is_archived, TASK)
    assert seen.task is not None
    assert seen.task.last_error
    assert not await redis.exists(keys.ACTIVE, keys.LEASE)


async def test_a_task_that_outlasts_its_own_timeout_is_archived(worker: Worker, asynq_peer: AsynqPeer) -> None:
    await asynq_peer.enqueue(TASK, worker.payload("hang"), timeout_s=1)
    async with worker.serve("hang"):
        seen = await asynq_peer.inspect_until(is_archived, TASK)
    assert seen.task is not None
    assert "deadline exceeded" in seen.task.last_error


async def test_a_paused_queue_is_left_alone(worker: Worker, asynq_peer: AsynqPeer) -> None:
    await asynq_peer.enqueue(TASK, worker.payload("succeed"))
    await asynq_peer.pause()
    async with worker.serve("succeed") as server:
        # It has announced itself, so it polls the queue by now.
        await asynq_peer.inspect_until(lambda seen: [peer.pid for peer in seen.servers] == [server.pid])
        waiting = await asynq_peer.inspect(TASK)
        await asynq_peer.unpause()
        await asynq_peer.inspect_until(is_gone, TASK)
    assert waiting.task is not None
    assert waiting.task.state == "pending"


async def test_the_oldest_task_goes_first(worker: Worker, asynq_peer: AsynqPeer) -> None:
    order = [f"{TASK}:{number}" for number in range(12)]
    for task in order:
        await asynq_peer.enqueue(task, worker.payload("hang"))
    # Ten at once: the two youngest wait.
    async with worker.serve("hang"):
        await asynq_peer.inspect_until(lambda seen: seen.queue is not None and seen.queue.active == 10)
        states = [(await asynq_peer.inspect(task)).task for task in order]
    assert [state.state for state in states if state] == ["active"] * 10 + ["pending"] * 2


async def test_the_lease_is_renewed_and_the_task_announced(worker: Worker, asynq_peer: AsynqPeer, redis: Redis) -> None:
    await asynq_peer.enqueue(TASK, worker.payload("hang"))
    async with worker.serve("hang") as server:
        await asynq_peer.inspect_until(is_active, TASK)
        # As if it had been taken 10 s ago.
        first_s = float(await redis.zincrby(keys.LEASE, -10, TASK) or 0)
        seen = await asynq_peer.inspect_until(lambda seen: any(TASK in peer.tasks for peer in seen.servers))
        assert [peer.pid for peer in seen.servers] == [server.pid]
        async with asyncio.timeout(10):
            while (await redis.zscore(keys.LEASE, TASK) or 0) < first_s + 10:
                await asyncio.sleep(0.01)  # asynq has no event to wait for


async def test_a_killed_worker_leaves_its_task_active_with_its_lease(
    worker: Worker, asynq_peer: AsynqPeer, redis: Redis
) -> None:
    await asynq_peer.enqueue(TASK, worker.payload("hang"))
    async with worker.serve("hang") as server:
        await asynq_peer.inspect_until(is_active, TASK)
        await server.kill()
        assert is_active(await asynq_peer.inspect(TASK))
        assert await redis.zscore(keys.LEASE, TASK) is not None


async def test_a_task_whose_worker_died_long_ago_is_archived(
    worker: Worker, asynq_peer: AsynqPeer, redis: Redis
) -> None:
    await asynq_peer.enqueue(TASK, worker.payload("hang"))
    async with worker.serve("hang") as server:
        await asynq_peer.inspect_until(is_active, TASK)
        await server.kill()
    await redis.zincrby(keys.LEASE, -100, TASK)
    async with worker.serve("succeed"):
        seen = await asynq_peer.inspect_until(is_archived, TASK)
    assert seen.task is not None
    assert seen.task.last_error == "asynq: task lease expired"


async def test_a_worker_that_is_stopped_puts_its_task_back_and_signs_off(
    worker: Worker, asynq_peer: AsynqPeer, redis: Redis
) -> None:
    await asynq_peer.enqueue(TASK, worker.payload("hang"))
    async with worker.serve("hang"):
        await asynq_peer.inspect_until(is_active, TASK)
    seen = await asynq_peer.inspect(TASK)
    assert seen.task is not None
    assert seen.task.state == "pending"
    assert seen.servers == []
    assert not await redis.exists(keys.ACTIVE, keys.LEASE, keys.SERVERS, keys.WORKERS)
