"""Signals work from the first line of ours on, as process 1 too."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil
import pytest

from support.producer import WITHIN_S, command, environment
from support.tcp_forwarding import serving
from support.waiting import until

AS_PROCESS_1 = ("unshare", "--pid", "--fork", "--kill-child")
MOMENTS_MS = (0, 20, 40, 80, 120, 160, 200, 300, 400, 500, 700)
"""A start takes half a second where the machine has nothing else to do."""
ENDS_WITHIN_S = 2.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def _started(folder: Path, launcher: Sequence[str], port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a producer that waits for a Redis which never answers, and for a database likewise."""
    variables = {"DB_TYPE": "postgres", "DB_HOST": "127.0.0.1", "DB_PORT": port, "DB_USER": "me", "DB_PASS": "hush"}
    process = subprocess.Popen(
        [*launcher, *command("run")],
        cwd=folder,
        env=environment(**variables, DB_NAME="x", REDIS_PORT=port, PATH=os.environ["PATH"]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _is_caught(pid: int, number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught >> (number - 1) & 1)


@pytest.fixture
async def silent_port() -> AsyncIterator[int]:
    """Listen on a port whose calls are taken and never answered."""

    async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serving(silent) as port:
        yield port


@pytest.mark.parametrize("launcher", [(), AS_PROCESS_1], ids=["a process", "process 1"])
async def test_a_signal_at_any_moment_of_the_start_ends_it_with_code_0(
    tmp_path: Path, silent_port: int, launcher: Sequence[str]
) -> None:
    if launcher and os.geteuid() != 0:
        pytest.skip("only root may make a process 1")
    at_once = asyncio.Semaphore(2)
    took_s: list[float] = []

    async def signalled(moment_ms: int, number: signal.Signals) -> tuple[int, bytes]:
        async with at_once:
            with _started(tmp_path, launcher, silent_port) as process:
                pids = [process.pid]
                if launcher:
                    await until(lambda: bool(psutil.Process(process.pid).children()))
                    pids = [child.pid for child in psutil.Process(process.pid).children()]
                # The last of the three; of SIGINT Python has a handler of its own before.
                await until(lambda: _is_caught(pids[0], signal.SIGHUP))
                await asyncio.sleep(moment_ms / 1000)
                os.kill(pids[0], number)
                signalled_s = time.monotonic()
                out, _ = await asyncio.to_thread(process.communicate, timeout=WITHIN_S)
                took_s.append(time.monotonic() - signalled_s)
                return process.returncode, out

    cases = [(moment, SIGNALS[place % len(SIGNALS)]) for place, moment in enumerate(MOMENTS_MS)]
    ended = await asyncio.gather(*(signalled(*case) for case in cases))
    assert {case: (code, out) for case, (code, out) in zip(cases, ended, strict=True) if code} == {}
    assert not [out for _, out in ended if b"Traceback" in out]
    # A machine that is busy with other tests may hold up some.
    assert median(took_s) < ENDS_WITHIN_S, took_s


async def test_nohup_keeps_its_promise(tmp_path: Path, silent_port: int) -> None:
    with _started(tmp_path, ("nohup",), silent_port) as process:
        await until(lambda: _is_caught(process.pid, signal.SIGTERM))
        assert not _is_caught(process.pid, signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0


@pytest.mark.parametrize("arguments", [("status",), ("explain", "x"), ("run-now", "x"), ("demo",), ("--help",)])
async def test_commands_end_by_a_signal_as_any_program(tmp_path: Path, arguments: Sequence[str]) -> None:
    probe = "import signal, peekaping_producer.__main__; print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
    done = await asyncio.to_thread(
        subprocess.run, [command()[0], "-c", probe, *arguments], cwd=tmp_path, capture_output=True, check=True
    )
    assert done.stdout == b"True\n"
