"""An honest little worker: takes health checks from the queue by asynq's rules, runs them, writes their results.

A process of its own, `python -m peekaping_producer.demo.worker '<WorkerOptions as JSON>'`, so that it can be killed
in the middle of checks.
"""

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from peekaping_producer.demo import ledger
from peekaping_producer.demo.checks import INSTANT, Status, Verdict, http_client, run_check
from peekaping_producer.demo.clock import now_ms
from peekaping_producer.demo.ledger import LedgerWriter
from peekaping_producer.demo.payload import Check, read_check
from peekaping_producer.demo.queue import BEAT_EVERY_S, LEASE_EXPIRED, LEASE_S, RECOVER_EVERY_S, Queue, Taken
from peekaping_producer.demo.redis_server import HOST
from peekaping_producer.demo.results import Result, Results

if TYPE_CHECKING:
    import httpx

_POLL_S = 0.02
"""How often an empty queue is looked at."""
_BATCH = 200
"""Most tasks taken, or ended, in one command."""
_PATIENCE_S = 0.1
"""How long running checks may still take once the worker is asked to stop; then they are put back."""
_REDIS_TIMEOUT_S = 5.0
_OUTCOMES: dict[Status, ledger.Outcome] = {
    Status.DOWN: "down",
    Status.UP: "up",
    Status.PENDING: "pending",
    Status.MAINTENANCE: "maintenance",
}


class WorkerOptions(Struct, frozen=True):
    """How one worker process runs."""

    redis_port: int
    database: str
    ledger: str
    concurrency: int = 50
    instant: bool = False
    """Give every check its verdict at once, without looking."""


class _Ended(Struct, frozen=True):
    """A task that is over: with a result, dropped as stale, or failed."""

    task: Taken
    monitor_id: str
    scheduled_ms: int
    at_ms: int
    result: Result | None = None
    error: str = ""


class Worker:
    """Takes tasks, runs them side by side, and ends them in batches."""

    def __init__(self, options: WorkerOptions, queue: Queue, results: Results, book: LedgerWriter) -> None:
        """Put the parts together; nothing runs yet."""
        self._options = options
        self._queue, self._results, self._book = queue, results, book
        self._running: dict[str, tuple[Taken, asyncio.Task[None]]] = {}
        self._leases_ms: dict[str, int] = {}
        self._ended: list[_Ended] = []
        self._stopping = asyncio.Event()
        self._over = asyncio.Event()
        self._something_ended = asyncio.Event()

    def stop(self) -> None:
        """Take nothing more; put back what does not end soon."""
        self._stopping.set()

    async def run(self, client: "httpx.AsyncClient") -> None:
        """Work until `stop`. Raises what Redis or the database raises: a worker that lost them starts anew."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            group.create_task(self._recover())
            group.create_task(self._end_tasks())
            while not self._stopping.is_set():
                await self._take(client, group)
            await self._wind_down()
            # The helpers end by themselves: the client may swallow a cancellation on Python 3.11.
            self._over.set()
            self._something_ended.set()
        await self._end_batch()
        await self._queue.sign_off()

    async def _take(self, client: "httpx.AsyncClient", group: asyncio.TaskGroup) -> None:
        room = _BATCH if self._options.instant else self._options.concurrency - len(self._running)
        tasks = await self._queue.take(min(room, _BATCH)) if room > 0 else []
        if tasks:
            checks = [(task, _read(task)) for task in tasks]
            self._book.write(_taken(task, check) for task, check in checks if isinstance(check, Check))
            for task, check in checks:
                self._begin(task, check, client, group)
        if len(tasks) < _BATCH:
            await _wait(self._stopping, _POLL_S)
        elif self._options.instant:
            await self._end_batch()

    def _begin(self, task: Taken, check: Check | str, client: "httpx.AsyncClient", group: asyncio.TaskGroup) -> None:
        if isinstance(check, str):
            self._end(_Ended(task, "", 0, task.taken_ms, error=check))
        elif check.is_stale(task.taken_ms):
            self._end(_Ended(task, check.monitor_id, check.scheduled_ms, task.taken_ms))
        elif self._options.instant:
            self._end(_judged(task, check, INSTANT))
        else:
            self._leases_ms[task.id] = task.taken_ms + LEASE_S * 1000
            self._running[task.id] = task, group.create_task(self._check(task, check, client))

    async def _check(self, task: Taken, check: Check, client: "httpx.AsyncClient") -> None:
        try:
            async with asyncio.timeout((task.deadline_ms - now_ms()) / 1000):
                verdict = await run_check(check, client)
        except TimeoutError:
            self._end(_failed(task, check, "context deadline exceeded"))
        except ValueError as error:
            self._end(_failed(task, check, str(error)))
        else:
            self._end(_judged(task, check, verdict))
        finally:
            self._running.pop(task.id, None)
            self._leases_ms.pop(task.id, None)

    def _end(self, ended: _Ended) -> None:
        # Past its lease a task is no longer ours to end: the recoverer has it.
        if self._leases_ms.get(ended.task.id, ended.at_ms) >= ended.at_ms:
            self._ended.append(ended)
            self._something_ended.set()

    async def _end_tasks(self) -> None:
        while not self._over.is_set():
            await self._something_ended.wait()
            self._something_ended.clear()
            await self._end_batch()

    async def _end_batch(self) -> None:
        ended, self._ended = self._ended, []
        if not ended:
            return
        self._results.write([one.result for one in ended if one.result])
        done = [one.task.id for one in ended if not one.error]
        for first in range(0, len(done), _BATCH):
            await self._queue.done(done[first : first + _BATCH])
        for one in ended:
            if one.error:
                await self._queue.archive(one.task.message, one.error)
        self._book.write(_finished(ended))

    async def _beat(self) -> None:
        while not self._over.is_set():
            now = now_ms()
            running = [task for task, _ in self._running.values()]
            owned = [task_id for task_id, lease_ms in self._leases_ms.items() if lease_ms > now]
            for task_id in self._leases_ms.keys() - owned:
                self._running[task_id][1].cancel(LEASE_EXPIRED)
            lease_ms = await self._queue.beat(running, owned)
            # One may have ended meanwhile.
            self._leases_ms.update((task_id, lease_ms) for task_id in owned if task_id in self._leases_ms)
            await _wait(self._over, BEAT_EVERY_S)

    async def _recover(self) -> None:
        while not self._over.is_set():
            await self._queue.recover()
            await _wait(self._over, RECOVER_EVERY_S)

    async def _wind_down(self) -> None:
        checks = [check for _, check in self._running.values()]
        if checks:
            await asyncio.wait(checks, timeout=_PATIENCE_S)
        left = list(self._running.values())
        for task, check in left:
            check.cancel()
            await self._queue.requeue(task.id)


def _read(task: Taken) -> Check | str:
    """Return the check, or why the task fails."""
    try:
        return read_check(task.message.payload)
    except ValueError as error:
        return f"unreadable payload: {error}"


def _taken(task: Taken, check: Check) -> ledger.Taken:
    return ledger.Taken(check.monitor_id, check.scheduled_ms, task.taken_ms)


def _judged(task: Taken, check: Check, verdict: Verdict) -> _Ended:
    at_ms = now_ms()
    result = Result(check.monitor_id, check.monitor_type, task.taken_ms, at_ms, verdict)
    return _Ended(task, check.monitor_id, check.scheduled_ms, at_ms, result)


def _failed(task: Taken, check: Check, error: str) -> _Ended:
    return _Ended(task, check.monitor_id, check.scheduled_ms, now_ms(), error=error)


def _finished(ended: Sequence[_Ended]) -> list[ledger.Finished]:
    """Enter them as of now, when their ids are free again, which is a little after their checks ended."""
    entries = []
    free_ms = now_ms()
    for one in ended:
        outcome: ledger.Outcome = "dropped"
        ping_ms, text = 0, "too old"
        if one.result:
            verdict = one.result.verdict
            outcome, ping_ms, text = _OUTCOMES[verdict.status], verdict.ping_ms, verdict.text
        elif one.error:
            outcome, text = "failed", one.error
        entries.append(ledger.Finished(one.monitor_id, one.scheduled_ms, free_ms, outcome, ping_ms, text))
    return entries


async def _wait(event: asyncio.Event, at_most_s: float) -> None:
    try:
        async with asyncio.timeout(at_most_s):
            await event.wait()
    except TimeoutError:
        return


async def _serve(options: WorkerOptions) -> None:
    redis = Redis(
        host=HOST,
        port=options.redis_port,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=_REDIS_TIMEOUT_S,
        client_name="demo-worker",
    )
    book = LedgerWriter(Path(options.ledger))
    try:
        with Results(Path(options.database)) as results:
            async with redis, http_client() as client:
                worker = Worker(options, Queue(redis, options.concurrency), results, book)
                loop = asyncio.get_running_loop()
                for end in (signal.SIGTERM, signal.SIGINT):
                    loop.add_signal_handler(end, worker.stop)
                await worker.run(client)
    finally:
        book.close()


if __name__ == "__main__":
    asyncio.run(_serve(msgspec.json.decode(sys.argv[1], type=WorkerOptions)))
