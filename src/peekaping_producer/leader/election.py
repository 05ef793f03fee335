"""The loop in which a node takes leadership, extends its term, and runs the leader's duties."""

import asyncio
import time
from collections.abc import Callable, Sequence

from peekaping_producer.errors import Unavailable
from peekaping_producer.leader.duty import Duty
from peekaping_producer.leader.term import Extension, Other, Term, Terms
from peekaping_producer.node.guard import kept_running
from peekaping_producer.node.node import Node
from peekaping_producer.node.stop import Bell
from peekaping_producer.observe.events import LogEvent

_AFTER_EXPIRY_S = 0.01
"""Another node's term is read again this long after it may have expired, not in the very same millisecond."""

_UNREADABLE = "this node can't read the database, another one can"


class Election:
    """Leads whenever no other node does."""

    def __init__(
        self,
        node: Node,
        terms: Terms,
        vacant: Bell,
        duties: Sequence[Duty],
        on_unreadable: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the leader key, the bell that a resigned leader rings, and the duties.

        `on_unreadable` is called when this node resigns because it can't read the database.
        """
        self._on_unreadable = on_unreadable
        self._node = node
        self._timing = node.timing
        self._terms = terms
        self._vacant = vacant
        self._duties = duties
        self._leader: str | None = None

    async def loop(self) -> None:
        """Try to take leadership every second, lead while the term lasts, resign when it is time to stop."""
        while not self._node.stop:
            wait_s = self._timing.election_every_s
            try:
                term = await self._terms.take(healthy=not self._node.database_outage.ongoing)
            except Unavailable as error:
                self._node.redis_failed(error)
            else:
                if isinstance(term, Term):
                    await self._lead(term)
                    continue
                if term:
                    self._follow(term)
                    wait_s = min(wait_s, term.left_s + _AFTER_EXPIRY_S)
            await self._vacant.within(wait_s)

    def _follow(self, other: Other) -> None:
        if other.node_id != self._leader:
            self._leader = other.node_id
            self._node.measures.terms += 1
            self._node.log.info(LogEvent.ANOTHER_NODE_LEADS, leader=other.node_id)

    async def _lead(self, term: Term) -> None:
        self._leader = term.node_id
        self._node.measures.terms += 1
        self._node.status.lead(leading=True)
        self._node.log.info(LogEvent.LEADERSHIP_TAKEN)
        if term.lost:
            self._node.loss.confirm(term.lost)
        try:
            async with asyncio.TaskGroup() as duties:
                for duty in self._duties:
                    duties.create_task(self._keep_running(duty, term), name=duty.name)
                lost = await self._extended(term)
                term.ended.set()
        except Exception:
            # Another node may do better.
            await self._resign()
            raise
        finally:
            term.ended.set()
            self._node.status.lead(leading=False)
            self._node.loss.forget()
        if lost == _UNREADABLE:
            self._node.log.warning(LogEvent.LEADERSHIP_RESIGNED, reason=lost)
        elif lost:
            self._node.log.warning(LogEvent.LEADERSHIP_LOST, reason=lost)
        else:
            await self._resign()

    async def _extended(self, term: Term) -> str | None:
        """Extend the term until it is time to stop; return why it was lost, None if it was not."""
        every_s = self._timing.election_every_s
        while not await self._node.stop.within(every_s):
            try:
                extended = await self._terms.extend(term)
            except Unavailable as error:
                self._node.redis_failed(error)
                every_s = min(self._timing.retry_first_s, max(0.0, term.lasts_until_s - time.monotonic()))
            else:
                if isinstance(extended, str):
                    return extended
                if await self._handed_over():
                    return _UNREADABLE
                self._check_sizes(term, extended)
                every_s = self._timing.election_every_s
            if term.is_over:
                return "no extension reached Redis in time"
        return None

    def _check_sizes(self, term: Term, extended: Extension) -> None:
        """Have the schedule swept at once if a part of it may be missing."""
        if min(extended.due, extended.leased) < 0:
            self._node.keys_damaged.ring()
        elif term.has_shrunk(extended.due, extended.leased, extended.left):
            self._node.loss.suspect("many monitors went missing from the schedule at once")
            self._node.sweep_wanted.ring()

    async def _handed_over(self) -> bool:
        """Resign if this node has read nothing for too long and another one can; return whether it has."""
        if self._node.database_outage.unanswered_s < self._timing.resign_after_s:
            return False
        try:
            resigned = await self._terms.resign(to_healthy=True)
        except Unavailable as error:
            self._node.redis_failed(error)
            return False  # if Redis did it all the same, the next extension says so
        if not resigned:
            return False
        self._on_unreadable()
        return True

    async def _keep_running(self, duty: Duty, term: Term) -> None:
        """Run a duty until the term is over; one that fails is started again, and the others go on."""

        async def in_term() -> None:
            async with term.ended.cutting_short():
                if not term.is_over:
                    await duty.run(term)

        await kept_running(self._node, duty.name, in_term, term.ended, LogEvent.LEADER_TASK_FAILED, duty.database)

    async def _resign(self) -> None:
        try:
            await self._terms.resign()
        except Unavailable as error:
            self._node.log.warning(LogEvent.RESIGNATION_FAILED, reason=error.reason)
        else:
            self._node.log.info(LogEvent.LEADERSHIP_RESIGNED)
