"""The whole producer as a process of its own, and in this one with shorter durations; its log lines can be awaited."""

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import patch

from msgspec.structs import replace

from peekaping_producer.app import produce
from peekaping_producer.cli import main
from peekaping_producer.config.settings import Settings
from peekaping_producer.node.stop import Stop
from peekaping_producer.timing import Timing
from support.forked import ForkedProcess, fork, run_forked
from support.log_capture import CapturedLog, Line

WITHIN_S = 20.0
"""A start of Python takes a second where the tests have the machine to themselves, and more beside others."""
_LOGGED_WITHIN_S = 60.0
"""Many producers start at once in some tests, and coverage slows them all."""
_LINE_MAX_BYTES = 1 << 20
_COVERAGE = ("COVERAGE_PROCESS_CONFIG",)
"""The variables by which coverage measures the processes of a measured one."""

GRACEFUL = ["shutdown requested", "producer stopped"]


class Ended:
    """A process that has ended: its exit code, its log lines, and what it wrote to standard error."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def problems(self) -> list[str]:
        """What ended it, as standard error says: plain lines, or the problems of JSON ones."""
        lines = self.err.splitlines()
        return [json.loads(line)["problem"] if line.startswith("{") else line for line in lines]


class Producer:
    """A running process, and the JSON lines it has logged so far."""

    def __init__(self, process: asyncio.subprocess.Process | ForkedProcess) -> None:
        self.lines: list[Line] = []
        self.err = ""
        self._process = process
        self._changed = asyncio.Condition()
        self._closed = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def events(self) -> list[str]:
        """The events logged so far."""
        return [line["event"] for line in self.lines]

    def logged(self, event: str) -> list[Line]:
        """Return the lines of one event."""
        return [line for line in self.lines if line["event"] == event]

    async def until_logged(self, event: str, times: int = 1) -> Line:
        """Wait until an event has been logged this often; return its last line."""
        await self.until(lambda: len(self.logged(event)) >= times, f"{times} × {event!r}")
        return self.logged(event)[times - 1]

    async def until(self, condition: Callable[[], bool], what: str = "the condition") -> None:
        """Wait until `condition` holds, checked after each line; raises AssertionError with the log if not."""
        try:
            async with asyncio.timeout(_LOGGED_WITHIN_S), self._changed:
                await self._changed.wait_for(lambda: condition() or self._closed)
        except TimeoutError:
            pass  # reported below, with the log
        assert condition(), f"{what}: not in {_LOGGED_WITHIN_S:g} s or before the end; log: {self.lines}; {self.err}"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; return the exit code, negative for a signal."""
        async with asyncio.timeout(WITHIN_S):
            return await self._process.wait()

    async def stop(self) -> int:
        """Send SIGTERM, and SIGKILL to one that ignores it; return the exit code."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                return await self.ended()
            except TimeoutError:
                self._process.kill()
        return await self._process.wait()

    async def _read_log(self) -> None:
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                async with self._changed:
                    self.lines.append(json.loads(line))
                    self._changed.notify_all()
        finally:
            async with self._changed:
                self._closed = True
                self._changed.notify_all()

    async def _read_err(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.err += line.decode()


def command(*arguments: str) -> list[str]:
    """Return the command line of the producer with this interpreter."""
    return [sys.executable, "-m", "peekaping_producer", *arguments]


def environment(**variables: object) -> dict[str, str]:
    """Return a whole environment: quiet defaults and these variables; nothing is inherited but what coverage needs."""
    measured = {name: os.environ[name] for name in _COVERAGE if name in os.environ}
    return {"MODE": "prod", "REDIS_HOST": "127.0.0.1"} | measured | {k: str(value) for k, value in variables.items()}


@asynccontextmanager
async def started(
    folder: Path, *, arguments: Sequence[str] = ("run",), launcher: Sequence[str] = (), **variables: object
) -> AsyncIterator[Producer]:
    """Start the process in `folder` for the duration of the block; its lines must be JSON and stay below a megabyte.

    It is forked, unless there is a program to launch it.
    """
    env = environment(**variables)
    process: asyncio.subprocess.Process | ForkedProcess
    if launcher:
        process = await asyncio.create_subprocess_exec(
            *launcher,
            *command(*arguments),
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            limit=_LINE_MAX_BYTES,
        )
    else:
        process = await fork(folder, env, _LINE_MAX_BYTES, *arguments)
    producer = Producer(process)
    async with asyncio.TaskGroup() as readers:
        readers.create_task(producer._read_log())
        readers.create_task(producer._read_err())
        try:
            yield producer
        finally:
            await producer.stop()


def run_to_the_end(folder: Path, *arguments: str, **variables: object) -> Ended:
    """Run the process until it ends by itself."""
    code, out, err = run_forked(folder, environment(**variables), WITHIN_S, *arguments)
    return Ended(code, out.decode(), err.decode())


def run_here(folder: Path, *arguments: str, **variables: object) -> Ended:
    """Run a command to its end in this process, which takes a tenth of a process's time; nothing may run beside it."""
    written = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(stream, "utf-8", "surrogateescape", write_through=True) for stream in written)
    with (
        patch.dict(os.environ, environment(**variables), clear=True),
        patch.object(sys, "argv", ["peekaping-producer", *arguments]),
        patch.object(signal, "signal"),  # a thread may set none, and these are the tests' own
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Ended(code, *(stream.getvalue().decode() for stream in written))


class InProcess(CapturedLog):
    """The producer as a task of this process, with durations of the test's choice."""

    def __init__(self) -> None:
        super().__init__()
        self.stop = Stop()


@asynccontextmanager
async def producing(settings: Settings, timing: Timing) -> AsyncIterator[InProcess]:
    """Run the producer in this process for the duration of the block; its end is a clean one."""
    producer = InProcess()
    async with asyncio.TaskGroup() as group:
        group.create_task(produce(settings, producer.log, replace(timing, often_logged_every_s=0), producer.stop))
        try:
            yield producer
        finally:
            producer.stop.set()
