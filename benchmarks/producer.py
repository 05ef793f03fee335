"""The real producer as a process, started as an operator would, and what it costs."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from msgspec import Struct
from redis import Redis

from benchmarks.database import Database
from peekaping_producer.demo.redis_server import HOST, killed_with_parent
from peekaping_producer.redisdb.keys import DUE

STOP_WITHIN_S = 15.0
WAIT_AT_MOST_S = 60.0
_SCHEDULER_CLOCK = 2
"""The kind of clock in the id of a process' clock: CPUCLOCK_SCHED in the kernel's posix-timers.h."""
COMMAND = (sys.executable, "-m", "peekaping_producer", "run")


class Cost(Struct, frozen=True):
    """What one process used up to now."""

    cpu_s: float
    peak_memory_bytes: int


class Producer(Struct, frozen=True):
    """A producer that runs."""

    pid: int
    log: Path

    def cost(self) -> Cost:
        """Read what it used so far."""
        return used_by(self.pid)


def used_by(pid: int) -> Cost:
    """Read what a process and its children used so far: a server may fork for each connection."""
    process = psutil.Process(pid)
    cpu_s = 0.0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            cpu_s += _cpu_s(one)
    return Cost(cpu_s, _peak_memory_bytes(process))


def _cpu_s(process: psutil.Process) -> float:
    """Return the processor time of a process, on Linux to the nanosecond.

    What /proc says can be a count of the timer's ticks, several times too much for a process that timers wake.
    """
    if sys.platform == "linux":
        try:
            return time.clock_gettime(~process.pid << 3 | _SCHEDULER_CLOCK)
        except OSError as error:
            raise psutil.NoSuchProcess(process.pid) from error
    else:
        times = process.cpu_times()
        return times.user + times.system


class CpuTimes:
    """The processor time that several processes have used since this was made."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        """Take their process ids by name, and begin."""
        self._pids = pids
        self._before_s = self._now_s()

    def used_s(self) -> dict[str, float]:
        """Return what each has used, by name."""
        return {name: now_s - self._before_s[name] for name, now_s in self._now_s().items()}

    def _now_s(self) -> dict[str, float]:
        return {name: used_by(pid).cpu_s for name, pid in self._pids.items()}


def _peak_memory_bytes(process: psutil.Process) -> int:
    """Return the peak memory on Linux, the current one elsewhere."""
    status = Path(f"/proc/{process.pid}/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else int(process.memory_info().rss)


def environment(database: Database, redis_port: int, concurrency: int) -> dict[str, str]:
    """Return the whole environment: nothing of the caller's affects what is measured."""
    return {
        "PATH": os.environ["PATH"],
        **database.settings,
        "REDIS_HOST": HOST,
        "REDIS_PORT": str(redis_port),
        "PRODUCER_CONCURRENCY": str(concurrency),
        "MODE": "prod",
        "LOG_LEVEL": "info",
    }


@contextmanager
def running_producer(
    database: Database, redis_port: int, concurrency: int = 10, wrapper: Sequence[str] = (), **variables: str
) -> Iterator[Producer]:
    """Run a producer to the end of the block; `wrapper` is a program that starts it, such as a profiler.

    `variables` are set in addition to the usual ones.

    Raises RuntimeError if it did not end normally.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        log = Path(folder) / "producer.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                killed_with_parent((*wrapper, *COMMAND)),
                env=environment(database, redis_port, concurrency) | variables,
                cwd=folder,
                stdout=out,
                stderr=out,
            )
        try:
            producer = Producer(_wrapped(process) if wrapper else process.pid, log)
            try:
                yield producer
            except TimeoutError as error:
                raise RuntimeError(f"{error}; its log: {log.read_text()[-2000:]}") from error
            finally:
                os.kill(producer.pid, signal.SIGTERM)
                code = process.wait(STOP_WITHIN_S)
        finally:
            process.kill()
            process.wait()
        if code != 0:
            raise RuntimeError(f"the producer ended with code {code}: {log.read_text()[-2000:]}")


def _wrapped(process: subprocess.Popen[bytes]) -> int:
    """Return the producer's own process id: the first child of what wraps it."""
    wrapper = psutil.Process(process.pid)
    wait_until(lambda: bool(wrapper.children()), "the profiler starts the producer", every_s=0.005)
    return wrapper.children()[0].pid


def wait_until(
    condition: Callable[[], bool], what: str, every_s: float = 0.02, within_s: float = WAIT_AT_MOST_S
) -> None:
    """Wait for a condition. Raises TimeoutError when it takes longer than `within_s`."""
    give_up_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"waited {within_s:g} s, but not yet: {what}")
        time.sleep(every_s)


def until_swept(redis: Redis, monitors: int, within_s: float = WAIT_AT_MOST_S) -> None:
    """Wait until the first sweep has scheduled this many monitors, none of which is due."""
    wait_until(lambda: redis.zcard(DUE) == monitors, "the first sweep has added all", within_s=within_s)


def log_lines(log: Path, event: str) -> list[dict[str, Any]]:
    """Return the lines of a producer's log that are about this event."""
    whole = log.read_text("utf-8").rpartition("\n")[0]
    return [line for line in map(json.loads, whole.splitlines()) if line["event"] == event]
