"""Processes of the producer, forked from a server that has imported it already: importing takes most of a start."""

import asyncio
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import psutil

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "peekaping_producer.cli",
        "peekaping_producer.launch",
        "peekaping_producer.demo.results",
        "peekaping_producer.demo.queue",
        "httpcore",  # httpx imports it late
        "httpx",
        *(f"peekaping_producer.catalog.{kind}" for kind in ("postgres", "mysql", "sqlite", "mongo")),
    ]
)


FORKED = "support.forked"
"""The audit event of each start: Python raises none here, because another process forks."""


class ForkedProcess:
    """One process: what `asyncio.subprocess.Process` is to one that was started by a command line."""

    def __init__(self, process: ForkServerProcess) -> None:
        """Watch a process that has been started."""
        assert process.pid is not None
        self.pid: int = process.pid
        self.stdout: asyncio.StreamReader
        self.stderr: asyncio.StreamReader
        self._process = process
        self._ended = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(process.sentinel, self._note_end)

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; raises ProcessLookupError if it has ended."""
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end; return the exit code."""
        await asyncio.shield(self._ended)
        code = self._process.exitcode
        assert code is not None
        return code

    def _note_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._process.join()
        self._ended.set_result(None)


async def fork(folder: Path, environment: Mapping[str, str], limit: int, *arguments: str) -> ForkedProcess:
    """Run `peekaping-producer ARGUMENTS` in `folder`, with this environment; lines of its output stay below `limit`."""
    process, out, err = await asyncio.to_thread(_start, folder, environment, arguments)
    forked = ForkedProcess(process)
    forked.stdout, forked.stderr = [await _reader(end, limit) for end in (out, err)]
    return forked


def run_forked(
    folder: Path, environment: Mapping[str, str], within_s: float, *arguments: str
) -> tuple[int, bytes, bytes]:
    """Run it to its end; return the exit code, and what it wrote to standard output and error.

    Raises TimeoutError if it has not ended in time; it is killed then.
    """
    process, out, err = _start(folder, environment, arguments)
    with ThreadPoolExecutor(2) as readers:
        written = [readers.submit(_read_all, end) for end in (out, err)]
        process.join(within_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"{arguments} has not ended in {within_s:g} s: {[end.result() for end in written]}")
        return process.exitcode, written[0].result(), written[1].result()


def server_pids() -> set[int]:
    """Return the processes that serve forks; they stay until the end of the tests."""
    tracker = multiprocessing.resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return {pid for pid in (server, tracker) if pid is not None and psutil.pid_exists(pid)}


def fork_module(folder: Path, environment: Mapping[str, str], log: Path, *command: str) -> ForkServerProcess:
    """Run `python -m COMMAND` in `folder`; its output goes to the file `log`."""
    process = _context.Process(target=_run, args=(command, str(folder), dict(environment), str(log), str(log)))
    sys.audit(FORKED)
    process.start()
    return process


def _start(
    folder: Path, environment: Mapping[str, str], arguments: Sequence[str]
) -> tuple[ForkServerProcess, Connection, Connection]:
    (out, child_out), (err, child_err) = _context.Pipe(duplex=False), _context.Pipe(duplex=False)
    command = ("peekaping_producer", *arguments)
    process = _context.Process(target=_run, args=(command, str(folder), dict(environment), child_out, child_err))
    sys.audit(FORKED)
    process.start()
    child_out.close()
    child_err.close()
    return process, out, err


def _read_all(end: Connection) -> bytes:
    with os.fdopen(os.dup(end.fileno()), "rb") as pipe:
        end.close()
        return pipe.read()


async def _reader(end: Connection, limit: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit)
    pipe = os.fdopen(os.dup(end.fileno()), "rb", 0)
    end.close()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


def _run(
    command: Sequence[str], folder: str, environment: Mapping[str, str], out: Connection | str, err: Connection | str
) -> None:
    os.chdir(folder)
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)
    for number, output in ((1, out), (2, err)):
        to = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if isinstance(output, str) else output.fileno()
        os.dup2(to, number)
    sys.argv = list(command)
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
