"""In place of workers: `python -m benchmarks.drain PORT` empties the queue, and judges each task.

For each line on standard input it writes what it has seen since the line before, as JSON. It runs until the input ends.
"""

import os
import select
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct
from redis import Redis

from benchmarks.figures import percentile
from benchmarks.helper import helping
from peekaping_producer.asynq import keys as asynq
from peekaping_producer.asynq.task_message_pb2 import TaskMessage
from peekaping_producer.demo.redis_server import HOST
from peekaping_producer.model.cadence import cadence
from peekaping_producer.model.monitor import MonitorId

_SCRIPT = Path(__file__).parent / "drain.lua"
_PROCESSED = asynq.PENDING.removesuffix("pending") + "processed"
_MOST = 200
"""Tasks in one call, so that no call blocks Redis for longer than one of a producer's does."""
_PAUSE_S = 0.02


class Seen(Struct, frozen=True):
    """The tasks of a period, by their own content, from which it is computed when their monitors were due."""

    seconds: float
    checks: int
    p50_ms: float
    """Lateness: from the slot until the task was in the queue, by Redis' clock."""
    p99_ms: float
    max_ms: float
    missed: int
    """Slots that passed between two checks of a monitor."""
    doubled: int
    """Checks for a slot that had one already."""


class _Payload(Struct):
    monitor_id: str
    interval: int
    scheduled_at: datetime


_payload = msgspec.json.Decoder(_Payload)


class Drain:
    """Takes tasks and judges them."""

    def __init__(self, redis: Redis) -> None:
        """Nothing is taken yet."""
        self._take = redis.register_script(_SCRIPT.read_text("utf-8"))
        self._slots_ms: dict[str, int] = {}
        """The slot of each monitor's last check."""
        self._late_ms = array("d")
        self._missed = self._doubled = 0
        self._since_s = time.monotonic()

    def take(self) -> int:
        """Take some tasks, the oldest ones; return how many."""
        taken = self._take(keys=[asynq.PENDING, _PROCESSED], args=[asynq.TASK, _MOST])
        for message, pending_since in zip(taken[::2], taken[1::2], strict=True):
            self._judge(_payload.decode(TaskMessage.FromString(message).payload), int(pending_since) / 1e6)
        return len(taken) // 2

    def _judge(self, task: _Payload, queued_ms: float) -> None:
        claimed_ms = round(task.scheduled_at.timestamp() * 1000)
        period_ms = task.interval * 1000
        last_ms = self._slots_ms.get(task.monitor_id)
        if last_ms is None:
            # The first check can come at once; then it takes the place of the slot nearest to it.
            slot_ms = cadence(MonitorId(task.monitor_id), task.interval).next_slot(claimed_ms) - period_ms
        else:
            slot_ms = claimed_ms - (claimed_ms - last_ms) % period_ms
            passed = (slot_ms - last_ms) // period_ms
            self._missed += max(0, passed - 1)
            self._doubled += passed == 0
        self._slots_ms[task.monitor_id] = slot_ms
        self._late_ms.append(queued_ms - slot_ms)

    def seen(self) -> Seen:
        """Return what was seen since the last call."""
        now_s, late_ms = time.monotonic(), sorted(self._late_ms)
        p50_ms, p99_ms, max_ms = (percentile(late_ms, percent) for percent in (50, 99, 100))
        seen = Seen(now_s - self._since_s, len(late_ms), p50_ms, p99_ms, max_ms, self._missed, self._doubled)
        self._late_ms, self._missed, self._doubled, self._since_s = array("d"), 0, 0, now_s
        return seen


class RunningDrain:
    """A drain in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Take a process that has said that it is ready."""
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def seen(self) -> Seen:
        """Return what it has seen since the last call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=Seen)

    def after(self, seconds: float) -> Seen:
        """Let time pass, and return what it has seen since the last call."""
        time.sleep(seconds)
        return self.seen()


@contextmanager
def draining(redis_port: int) -> Iterator[RunningDrain]:
    """Empty the queue for the duration of the block."""
    with helping("benchmarks.drain", str(redis_port)) as process:
        yield RunningDrain(process)


def main(redis_port: int) -> None:
    """Take tasks until the input ends."""
    with Redis(host=HOST, port=redis_port) as redis:
        drain = Drain(redis)
        sys.stdout.write("ready\n")
        while True:
            sys.stdout.flush()
            taken = drain.take()
            if select.select([sys.stdin], [], [], 0 if taken == _MOST else _PAUSE_S)[0]:
                if not os.read(sys.stdin.fileno(), 1):
                    return
                sys.stdout.write(msgspec.json.encode(drain.seen()).decode() + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
