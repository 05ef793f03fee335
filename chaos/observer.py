"""What is seen in Redis from outside: long claims and active tasks. And whether this machine stalls."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Self

import redis

from chaos.evidence import Span, Stall
from peekaping_producer.asynq import keys as asynq
from peekaping_producer.demo.clock import now_ms
from peekaping_producer.redisdb.keys import LEASE

_EVERY_S: Final = 0.1
_LONG_CLAIM_MS: Final = 800
"""A claim that lasts longer was left behind, or its database is slow."""
_TICK_S: Final = 0.05
_STALLED_MS: Final = 400
_ORPHAN_AFTER_S: Final = 3
"""A task whose lease expired this long ago is not active any more (task.lua, and a second for the clocks)."""
_TASK: Final = b"healthcheck:"


class Observer:
    """Two threads that look on, from `with` to the end of the block."""

    def __init__(self, client: Callable[[], redis.Redis]) -> None:
        """Take a function that returns a client of the Redis that is the primary at the time."""
        self._client = client
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=run, name=run.__name__) for run in (self._observe, self._watch_machine)
        ]
        self._claimed, self._active = _Spans(), _Spans()
        self._stalls: list[Stall] = []

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def claimed(self) -> tuple[Span, ...]:
        """When which monitors were claimed for long."""
        return tuple(span for span in self._claimed.all() if span.until_ms - span.from_ms > _LONG_CLAIM_MS)

    @property
    def active(self) -> tuple[Span, ...]:
        """When which monitors had an active task."""
        return tuple(self._active.all())

    @property
    def stalls(self) -> tuple[Stall, ...]:
        """When the machine stalled."""
        return tuple(self._stalls)

    def _observe(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(redis.RedisError, OSError), self._client() as client:
                while not self._over.wait(_EVERY_S):
                    self._look(client)
            self._over.wait(_EVERY_S)

    def _look(self, client: redis.Redis) -> None:
        with client.pipeline(transaction=False) as pipe:
            pipe.zrange(LEASE, 0, -1)
            pipe.lrange(asynq.ACTIVE, 0, -1)
            pipe.zrange(asynq.LEASE, 0, -1, withscores=True)
            pipe.time()
            claimed, active, leases, (now_s, _) = pipe.execute()
        at_ms = now_ms()
        self._claimed.see(at_ms, (id_.decode() for id_ in claimed))
        running = {task for task, lease_s in leases if lease_s > now_s - _ORPHAN_AFTER_S} & set(active)
        self._active.see(at_ms, (task.removeprefix(_TASK).decode() for task in running))

    def _watch_machine(self) -> None:
        before_s = time.monotonic()
        while not self._over.wait(_TICK_S):
            late_ms = round((time.monotonic() - before_s - _TICK_S) * 1000)
            if late_ms > _STALLED_MS:
                self._stalls.append(Stall(now_ms() - late_ms, late_ms))
            before_s = time.monotonic()


class _Spans:
    """The times during which something was true of each monitor."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[int, int]] = {}
        """Since when it has been seen of which monitor, and when last."""
        self._over: list[Span] = []
        self._seen_ms = 0

    def see(self, at_ms: int, monitors: Iterable[str]) -> None:
        """Note of which monitors it is true now."""
        before, self._open = self._open, {}
        for id_ in monitors:
            self._open[id_] = (before.pop(id_)[0] if id_ in before else self._seen_ms or at_ms), at_ms
        self._over += [Span(id_, from_ms, at_ms) for id_, (from_ms, _) in before.items()]
        self._seen_ms = at_ms

    def all(self) -> list[Span]:
        """Return all spans so far."""
        return [*self._over, *(Span(id_, from_ms, until_ms) for id_, (from_ms, until_ms) in self._open.items())]
