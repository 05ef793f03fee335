"""The real asynq beside us: its server, client and inspector, in a small Go program that tests drive.

Where the program can't be built for want of Go or its modules the test is skipped; with CI set it fails.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

import msgspec
import pytest
from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import RedisServer

SOURCE = Path(__file__).parents[1] / "interop" / "asynqpeer"
_LINE_MAX_BYTES = 1 << 24
_BUILD_WITHIN_S = 600
_CALL_WITHIN_S = 20.0
_STOP_WITHIN_S = 10.0


class HandledTask(Struct, frozen=True):
    """One task as asynq gave it to a handler."""

    id: str
    type: str
    queue: str
    payload_text: str
    payload: Any
    """Parsed; None unless it is JSON."""
    parse_error: str
    """Why a worker would archive it; empty if its payload has the types that Go's struct asks for."""
    stale: bool
    """Whether a worker would drop it: `scheduled_at` is older than 1.5 intervals."""
    started_ms: int
    deadline_ms: int
    """0: none."""
    retry: int
    """How often it had been tried before."""
    max_retry: int
    headers: dict[str, str] | None


class Done(Struct, frozen=True):
    """A handler returned. asynq records it a moment later: wait for that with `inspect`."""

    id: str
    error: str
    cancelled: bool
    """The task's deadline came, or the server was stopped."""
    ended_ms: int


class QueueState(Struct, frozen=True):
    """What the inspector says of a queue."""

    size: int
    pending: int
    active: int
    scheduled: int
    retry: int
    archived: int
    completed: int
    aggregating: int
    processed: int
    failed: int
    paused: bool
    latency_ms: int
    """How long the oldest pending task has waited."""


class TaskState(Struct, frozen=True):
    """What the inspector says of a task."""

    id: str
    queue: str
    type: str
    state: Literal["active", "pending", "scheduled", "retry", "archived", "completed", "aggregating"]
    payload_text: str
    headers: dict[str, str] | None
    timeout_s: int
    deadline_ms: int
    """0: none."""
    retention_s: int
    max_retry: int
    retried: int
    last_error: str
    group: str
    orphaned: bool
    """Active, and its worker's lease is over."""


class ServerState(Struct, frozen=True):
    """A live asynq server, as it announces itself every few seconds."""

    id: str
    pid: int
    status: str
    tasks: list[str]
    """Ids of the tasks it runs."""


class Inspection(Struct, frozen=True):
    """What asynq's inspector returned once."""

    queues: list[str]
    queue: QueueState | None
    """None: no such queue."""
    task: TaskState | None
    """None: not asked for, or no such task."""
    servers: list[ServerState]


class AsynqRefusedError(Exception):
    """What asynq answered instead of doing it; `kind` is one of those in queue.go, `task_id_conflict` among them."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind = kind


class AsynqServer:
    """A running asynq server, and what its handler has seen so far."""

    def __init__(self, process: asyncio.subprocess.Process, log: IO[bytes]) -> None:
        self.tasks: list[HandledTask] = []
        """In the order in which their handlers began."""
        self.done: list[Done] = []
        self._process = process
        self._log = log
        self._changed = asyncio.Condition()
        self._taken = 0
        self._ready = False
        self._ended = False
        self._killed = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def next_task(self, timeout_s: float = 10.0) -> HandledTask:
        """Return the next task that no earlier call returned; raises TimeoutError if none comes."""
        await self.until(lambda: len(self.tasks) > self._taken, timeout_s)
        self._taken += 1
        return self.tasks[self._taken - 1]

    async def until(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Wait until `condition` holds, checked whenever a handler begins or ends; raises TimeoutError."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: condition() or self._ended)
        except TimeoutError:
            seen = f"{len(self.tasks)} tasks begun, {len(self.done)} done"
            raise TimeoutError(f"asynq server: not within {timeout_s:g} s; {seen}; {self._said()}") from None
        if not condition():
            raise RuntimeError(f"asynq server: it ended; {self._said()}")

    async def kill(self) -> None:
        """End it as a crash would: its tasks stay active, with a lease that runs out."""
        self._killed = True
        self._process.kill()
        await self._process.wait()

    def pause(self) -> None:
        """Freeze it, as a stalled host would."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._process.send_signal(signal.SIGCONT)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._changed:
                self._take(line)
                self._changed.notify_all()
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, line: bytes) -> None:
        event = msgspec.json.decode(line, type=_Event)
        match event.event:
            case "task":
                self.tasks.append(msgspec.json.decode(line, type=HandledTask))
            case "done":
                self.done.append(msgspec.json.decode(line, type=Done))
            case "ready":
                self._ready = True
            case "stopped":
                pass
            case "":
                raise RuntimeError(f"asynq server: {line.decode()}")

    async def _stop(self) -> None:
        assert self._process.stdin is not None
        if self._process.returncode is None:
            self.resume()
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            await self.kill()
            raise TimeoutError(f"asynq server: it did not stop; {self._said()}") from None
        if self._process.returncode and not self._killed:
            raise RuntimeError(f"asynq server: exit code {self._process.returncode}; {self._said()}")

    def _said(self) -> str:
        self._log.seek(0)
        return f"its log: {self._log.read().decode(errors='replace')[-2000:] or '(empty)'}"


class _Event(Struct, frozen=True):
    event: Literal["ready", "task", "done", "stopped", ""] = ""


class AsynqPeer:
    """The Go program, aimed at one Redis."""

    def __init__(self, program: Path, redis_address: str) -> None:
        self._program = program
        self._address = redis_address

    def at(self, redis_address: str) -> "AsynqPeer":
        """Return the same for another Redis, as `host:port`."""
        return AsynqPeer(self._program, redis_address)

    @asynccontextmanager
    async def serve(
        self,
        *,
        queue: str = "healthcheck",
        task_type: str = "monitor:healthcheck",
        concurrency: int = 10,
        delay_ms: int = 0,
        fail: bool = False,
    ) -> AsyncIterator[AsynqServer]:
        """Run an asynq server whose handler takes `delay_ms` and returns nil, or an error with `fail`."""
        flags = _flags(queue=queue, type=task_type, concurrency=concurrency, delay=f"{delay_ms}ms", fail=fail)
        with tempfile.TemporaryFile() as log:
            process = await asyncio.create_subprocess_exec(
                *self._command("serve", flags),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                limit=_LINE_MAX_BYTES,
            )
            server = AsynqServer(process, log)
            reader = asyncio.create_task(server._read())
            try:
                await server.until(lambda: server._ready)
                yield server
            finally:
                try:
                    await server._stop()
                finally:
                    await reader

    async def inspect(self, task_id: str = "", *, queue: str = "healthcheck") -> Inspection:
        """Look at the queue, at the task if one is named, and at the live servers."""
        return msgspec.json.decode(await self._call("inspect", _flags(queue=queue, task=task_id)), type=Inspection)

    async def inspect_until(
        self, condition: Callable[[Inspection], bool], task_id: str = "", *, timeout_s: float = 30.0
    ) -> Inspection:
        """Inspect again and again until `condition` holds; raises TimeoutError with the last look."""
        give_up = time.monotonic() + timeout_s
        while not condition(seen := await self.inspect(task_id)):
            if time.monotonic() > give_up:
                raise TimeoutError(f"asynq: not within {timeout_s:g} s; last seen: {seen}")
            await asyncio.sleep(0.01)  # asynq has no event to wait for
        return seen

    async def enqueue(
        self,
        task_id: str = "",
        payload: str = "{}",
        *,
        queue: str = "healthcheck",
        task_type: str = "monitor:healthcheck",
        timeout_s: float = 30,
        max_retry: int = 0,
        delay_s: float = 0,
        retention_s: float = 0,
        unique_s: float = 0,
        group: str = "",
    ) -> TaskState:
        """Enqueue with asynq's client; raises AsynqRefusedError for a conflict."""
        flags = _flags(
            queue=queue,
            task=task_id,
            type=task_type,
            payload=payload,
            timeout=f"{timeout_s}s",
            delay=f"{delay_s}s",
            retention=f"{retention_s}s",
            unique=f"{unique_s}s",
            group=group,
            max_retry=max_retry,
        )
        return msgspec.json.decode(await self._call("enqueue", flags), type=TaskState)

    async def archive(self, task_id: str, *, queue: str = "healthcheck") -> None:
        """Archive a task that is not active."""
        await self._call("archive", _flags(queue=queue, task=task_id))

    async def run(self, task_id: str, *, queue: str = "healthcheck") -> None:
        """Make a scheduled, retried or archived task pending."""
        await self._call("run", _flags(queue=queue, task=task_id))

    async def delete(self, task_id: str, *, queue: str = "healthcheck") -> None:
        """Delete a task that is not active."""
        await self._call("delete", _flags(queue=queue, task=task_id))

    async def pause(self, *, queue: str = "healthcheck") -> None:
        """Pause the queue: servers take nothing from it."""
        await self._call("pause", _flags(queue=queue))

    async def unpause(self, *, queue: str = "healthcheck") -> None:
        """Let servers take tasks again."""
        await self._call("unpause", _flags(queue=queue))

    def _command(self, subcommand: str, flags: list[str]) -> list[str]:
        return [str(self._program), subcommand, f"-redis={self._address}", *flags]

    async def _call(self, subcommand: str, flags: list[str]) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *self._command(subcommand, flags),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_CALL_WITHIN_S):
                out, err = await process.communicate()
        except BaseException:
            process.kill()
            await process.communicate()
            raise
        if process.returncode == 0:
            return out
        if process.returncode == 1:
            refusal = msgspec.json.decode(out, type=dict[str, str])
            raise AsynqRefusedError(refusal["kind"], refusal["error"])
        raise RuntimeError(f"asynqpeer {subcommand}: exit code {process.returncode}: {err.decode(errors='replace')}")


def _flags(**values: object) -> list[str]:
    return [
        f"-{name.replace('_', '-')}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in values.items()
    ]


def build(folder: Path, source: Path = SOURCE) -> Path:
    """Return the built program of `source`, in `folder` from an earlier run of the same source where possible.

    Skips the test, or fails it with CI set, if Go or the modules are missing; raises RuntimeError if it does not
    compile.
    """
    program = folder / f"{source.name}-{_source_digest(source)}"
    with _locked(folder / "lock"):
        if program.exists():
            return program
        go = shutil.which("go")
        if go is None:
            _unavailable("Go is not installed")
        fetched = _go(go, source, "mod", "download")
        if fetched.returncode != 0:
            _unavailable(f"Go can't get asynq's modules: {fetched.stderr.strip()}")
        unfinished = program.with_suffix(".unfinished")
        options = ("-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", str(unfinished))
        built = _go(go, source, "build", *options, ".")
        if built.returncode != 0:
            raise RuntimeError(f"{source.name} does not build:\n{built.stderr}")
        unfinished.replace(program)
    return program


def _source_digest(source: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted([*source.glob("*.go"), source / "go.mod", source / "go.sum"]):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _go(go: str, source: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CGO_ENABLED": "0"}
    return subprocess.run(
        [go, *arguments],
        cwd=source,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=_BUILD_WITHIN_S,
    )


def _unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"the real asynq is required in CI: {reason}")
    pytest.skip(f"the real asynq is not here: {reason}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock among processes: test workers start side by side, and one of them builds."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def asynq_program(pytestconfig: pytest.Config) -> Path:
    """Build the Go program, once per change of its source."""
    assert pytestconfig.cache is not None
    return build(pytestconfig.cache.mkdir("asynqpeer"))


@pytest.fixture
def asynq_peer(asynq_program: Path, redis_server: RedisServer, redis: Redis) -> AsynqPeer:
    """Return the real asynq, aimed at the shared Redis, which is empty at the start of the test."""
    del redis
    return AsynqPeer(asynq_program, redis_server.address)
