"""How many batches this node reads from the database at once: only as many as make it faster."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_FIRST = 4
"""If the database answers within a few milliseconds, this many keep the process busy."""
_IDLE = 0.75
"""If the process is busy for less of the time than this, it waits for the database: more batches fill the gaps."""
_BUSY = 0.97
"""If the process is busier than this, one batch fewer costs nothing."""


class InFlight:
    """Room for batches from before their claim to the end of their read. Each has a database connection of its own.

    There is room for four at first. It doubles while a series of full batches leaves the thread that handles them idle
    for part of the time, and shrinks while the thread is always busy: more batches would only wait for it.
    """

    def __init__(
        self, most: int, clock: Callable[[], float] = time.monotonic, cpu: Callable[[], float] = time.thread_time
    ) -> None:
        """Allow at most `most` at once; `cpu` returns for how long this thread has been busy, in seconds."""
        self._most = most
        self._clock = clock
        self._cpu = cpu
        self.limit = min(_FIRST, most)
        self._free = asyncio.Semaphore(self.limit)
        self._surplus = 0
        self._batches = 0
        self._began_s = self._began_cpu_s = 0.0

    @asynccontextmanager
    async def room(self) -> AsyncIterator[None]:
        """Wait for room, and take it for the duration of the block."""
        await self._free.acquire()
        try:
            yield
        finally:
            if self._surplus:
                self._surplus -= 1
            else:
                self._free.release()

    def batch_read(self, *, full: bool) -> None:
        """Note a batch that was read; if it was not full, there is nothing to catch up with."""
        if not full:
            self._batches = 0
            return
        now_s, cpu_s = self._clock(), self._cpu()
        if not self._batches:
            self._began_s, self._began_cpu_s = now_s, cpu_s
        self._batches += 1
        if self._batches > self.limit and now_s > self._began_s:
            self._adapt((cpu_s - self._began_cpu_s) / (now_s - self._began_s))
            self._batches = 0

    def _adapt(self, busy: float) -> None:
        if busy < _IDLE and self.limit < self._most:
            more = min(self.limit, self._most - self.limit)
            self.limit += more
            kept = min(more, self._surplus)
            self._surplus -= kept
            for _ in range(more - kept):
                self._free.release()
        elif busy > _BUSY and self.limit > _FIRST:
            self.limit -= 1
            self._surplus += 1
