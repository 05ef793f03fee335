"""The demo's worker: takes health checks from the queue by asynq's rules, runs them, and writes their results.

It is a separate process, `python -m peekaping_producer.demo.worker '<WorkerOptions as JSON>'`, so that it can be
killed in the middle of checks.
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
"""How often an empty queue is polled."""
_BATCH = 200
"""The most tasks taken, or finished, in one command."""
_FINISH_WITHIN_S = 0.1
"""How long running checks may take once the worker is asked to stop; then they are put back into the queue."""
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
    """Every check succeeds at once, without network access."""


class _Finished(Struct, frozen=True):
    """A finished task: with a result, dropped as stale, or failed."""

    task: Taken
    monitor_id: str
    scheduled_ms: int
    at_ms: int
    result: Result | None = None
    error: str = ""


class Worker:
    """Takes tasks, runs them concurrently, and finishes them in batches."""

    def __init__(self, options: WorkerOptions, queue: Queue, results: Results, ledger: LedgerWriter) -> None:
        """Connect the parts; nothing runs yet."""
        self._options = options
        self._queue, self._results, self._ledger = queue, results, ledger
        self._running: dict[str, tuple[Taken, asyncio.Task[None]]] = {}
        self._leases_ms: dict[str, int] = {}
        self._finished: list[_Finished] = []
        self._stopping = asyncio.Event()
        self._over = asyncio.Event()
        self._something_finished = asyncio.Event()

    def stop(self) -> None:
        """Take nothing more, and put back what does not finish soon."""
        self._stopping.set()

    async def run(self, client: "httpx.AsyncClient") -> None:
        """Work until `stop`. Raises what Redis or the database raises: the demo restarts the worker then."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            group.create_task(self._recover())
            group.create_task(self._finish_tasks())
            while not self._stopping.is_set():
                await self._take(client, group)
            await self._stop_checks()
            # The other tasks must end by themselves: the client may swallow a cancellation on Python 3.11.
            self._over.set()
            self._something_finished.set()
        await self._finish_batch()
        await self._queue.sign_off()

    async def _take(self, client: "httpx.AsyncClient", group: asyncio.TaskGroup) -> None:
        room = _BATCH if self._options.instant else self._options.concurrency - len(self._running)
        tasks = await self._queue.take(min(room, _BATCH)) if room > 0 else []
        if tasks:
            checks = [(task, _read(task)) for task in tasks]
            self._ledger.write(_taken(task, check) for task, check in checks if isinstance(check, Check))
            for task, check in checks:
                self._begin(task, check, client, group)
        if len(tasks) < _BATCH:
            await _wait(self._stopping, _POLL_S)
        elif self._options.instant:
            await self._finish_batch()

    def _begin(self, task: Taken, check: Check | str, client: "httpx.AsyncClient", group: asyncio.TaskGroup) -> None:
        if isinstance(check, str):
            self._finish(_Finished(task, "", 0, task.taken_ms, error=check))
        elif check.is_stale(task.taken_ms):
            self._finish(_Finished(task, check.monitor_id, check.scheduled_ms, task.taken_ms))
        elif self._options.instant:
            self._finish(_judged(task, check, INSTANT))
        else:
            self._leases_ms[task.id] = task.taken_ms + LEASE_S * 1000
            self._running[task.id] = task, group.create_task(self._check(task, check, client))

    async def _check(self, task: Taken, check: Check, client: "httpx.AsyncClient") -> None:
        try:
            async with asyncio.timeout((task.deadline_ms - now_ms()) / 1000):
                verdict = await run_check(check, client)
        except TimeoutError:
            self._finish(_failed(task, check, "context deadline exceeded"))
        except ValueError as error:
            self._finish(_failed(task, check, str(error)))
        else:
            self._finish(_judged(task, check, verdict))
        finally:
            self._running.pop(task.id, None)
            self._leases_ms.pop(task.id, None)

    def _finish(self, finished: _Finished) -> None:
        # A task whose lease has expired belongs to the recoverer.
        if self._leases_ms.get(finished.task.id, finished.at_ms) >= finished.at_ms:
            self._finished.append(finished)
            self._something_finished.set()

    async def _finish_tasks(self) -> None:
        while not self._over.is_set():
            await self._something_finished.wait()
            self._something_finished.clear()
            await self._finish_batch()

    async def _finish_batch(self) -> None:
        finished, self._finished = self._finished, []
        if not finished:
            return
        self._results.write([one.result for one in finished if one.result])
        done = [one.task.id for one in finished if not one.error]
        for first in range(0, len(done), _BATCH):
            await self._queue.done(done[first : first + _BATCH])
        for one in finished:
            if one.error:
                await self._queue.archive(one.task.message, one.error)
        self._ledger.write(_entries(finished))

    async def _beat(self) -> None:
        while not self._over.is_set():
            now = now_ms()
            running = [task for task, _ in self._running.values()]
            owned = [task_id for task_id, lease_ms in self._leases_ms.items() if lease_ms > now]
            for task_id in self._leases_ms.keys() - owned:
                self._running[task_id][1].cancel(LEASE_EXPIRED)
            lease_ms = await self._queue.beat(running, owned)
            # A check may have finished meanwhile.
            self._leases_ms.update((task_id, lease_ms) for task_id in owned if task_id in self._leases_ms)
            await _wait(self._over, BEAT_EVERY_S)

    async def _recover(self) -> None:
        while not self._over.is_set():
            await self._queue.recover()
            await _wait(self._over, RECOVER_EVERY_S)

    async def _stop_checks(self) -> None:
        checks = [check for _, check in self._running.values()]
        if checks:
            await asyncio.wait(checks, timeout=_FINISH_WITHIN_S)
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


def _judged(task: Taken, check: Check, verdict: Verdict) -> _Finished:
    at_ms = now_ms()
    result = Result(check.monitor_id, check.monitor_type, task.taken_ms, at_ms, verdict)
    return _Finished(task, check.monitor_id, check.scheduled_ms, at_ms, result)


def _failed(task: Taken, check: Check, error: str) -> _Finished:
    return _Finished(task, check.monitor_id, check.scheduled_ms, now_ms(), error=error)


def _entries(finished: Sequence[_Finished]) -> list[ledger.Finished]:
    """Return entries with the current time: their task ids are free only now, a little after the checks ended."""
    entries = []
    free_ms = now_ms()
    for one in finished:
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
    writer = LedgerWriter(Path(options.ledger))
    try:
        with Results(Path(options.database)) as results:
            async with redis, http_client() as client:
                worker = Worker(options, Queue(redis, options.concurrency), results, writer)
                loop = asyncio.get_running_loop()
                for number in (signal.SIGTERM, signal.SIGINT):
                    loop.add_signal_handler(number, worker.stop)
                await worker.run(client)
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(_serve(msgspec.json.decode(sys.argv[1], type=WorkerOptions)))
