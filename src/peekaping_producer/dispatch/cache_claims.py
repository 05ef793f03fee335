"""What a node claims while its database is unavailable: only monitors that its cache can serve (invariant 12)."""

import time
from itertools import islice

from msgspec.structs import replace

from peekaping_producer.catalog.last_known import LastKnown
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.node.node import Node
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.schedule.orders import Claim, Claimed, Peeked
from peekaping_producer.schedule.redis_clock import Step
from peekaping_producer.schedule.store import Schedule

_MOST_PAGES = 5
"""The most pages that are read for one batch."""


class CacheClaims:
    """Reads what is due, page by page, and claims what the cache can serve.

    All other monitors stay due, where every other node sees them. This node claims them, the longest overdue first,
    when its database is available again. Each is read, and counted, once for each slot.
    """

    def __init__(self, node: Node, schedule: Schedule, cache: LastKnown) -> None:
        """Take the schedule, and the cache that serves what is claimed."""
        self._node = node
        self._timing = node.timing
        self._schedule = schedule
        self._cache = cache
        self._step: Step | None = None
        self._begin(0.0)

    async def claim(self, since_s: float) -> Claim:
        """Claim a batch in an outage of the database that began at `since_s`. Raises Unavailable as Schedule does."""
        if since_s != self._since_s:
            self._begin(since_s)
        batch = self._timing.batch
        if len(self._ready) >= batch:
            claim = await self._claim_these(self._take(batch))
            return replace(claim, next_due_ms=claim.now_ms)
        await self._read_again()
        page = await self._read_on()
        for _ in range(_MOST_PAGES - 1):
            if len(self._ready) >= batch or len(page.due) < self._timing.peek_page:
                break
            page = await self._read_on()
        wanted = self._take(batch)
        if wanted:
            claim = await self._claim_these(wanted)
        else:
            claim = Claim(page.now_ms, "", None, page.go_seen, (), page.answered_at_s, pause=page.pause)
        claim = replace(claim, next_due_ms=page.next_due_ms, step=self._step, behind_ms=page.behind_ms)
        self._step = None
        return claim

    def _begin(self, since_s: float) -> None:
        self._since_s = since_s
        self._last: Claimed | None = None
        """How far the set `due` has been read."""
        self._again: Claimed | None = None
        """How far the part before that has been read again."""
        self._again_at_s = time.monotonic() + self._timing.peek_again_s
        self._ready: dict[MonitorId, Claimed] = {}
        """What the cache can serve of what was read, and is not claimed yet."""

    def _take(self, most: int) -> list[Claimed]:
        taken = list(islice(self._ready.values(), most))
        for one in taken:
            del self._ready[one.id]
        return taken

    async def _claim_these(self, wanted: list[Claimed]) -> Claim:
        claim = await self._schedule.claim_these(wanted)
        if claim.pause:
            self._ready |= {one.id: one for one in wanted}
        return claim

    async def _read_on(self) -> Peeked:
        page = await self._peek(self._last)
        if page.due:
            self._last = page.due[-1]
            self._node.tally.count(self._sort(page))
        return page

    async def _read_again(self) -> None:
        """Read a page of what was passed over: for example, expired claims are put back there."""
        now_s = time.monotonic()
        if self._last is None or now_s < self._again_at_s:
            return
        page = await self._peek(self._again)
        self._sort(page)
        if len(page.due) < self._timing.peek_page or page.due[-1].due_ms > self._last.due_ms:
            self._again, self._again_at_s = None, now_s + self._timing.peek_again_s
        else:
            self._again, self._again_at_s = page.due[-1], now_s + self._timing.peek_again_page_s

    async def _peek(self, after: Claimed | None) -> Peeked:
        page = await self._schedule.peek(self._node.id, after, self._timing.peek_page)
        self._step = self._step or page.step
        return page

    def _sort(self, page: Peeked) -> list[Outcome]:
        """Note which monitors of a page the cache can serve; return why each of the others is deferred."""
        deferred: list[Outcome] = []
        ready, refusal_of, since_s = self._ready, self._cache.refusal, self._since_s
        for one in page.due:
            refusal = refusal_of(one.id, since_s)
            if refusal:
                deferred.append(refusal)
            else:
                ready[one.id] = one
        return deferred
