"""One of our nodes as the test drives it: real stores, terms, cache, plan and sync; only the loops are the test's."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct

from peekaping_producer.catalog.last_known import MB, LastKnown
from peekaping_producer.catalog.reading import Reading
from peekaping_producer.dispatch.plan import Plan, plan
from peekaping_producer.errors import NotLeading, Unavailable
from peekaping_producer.leader.sync import Sync
from peekaping_producer.leader.term import Term, Terms
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.schedule.orders import Claim, Claimed
from peekaping_producer.schedule.store import LONGEST_TERM_MS
from peekaping_producer.timing import Timing
from properties.checked_schedule import CheckedSchedule
from properties.model import State
from properties.stage import Stage
from properties.table import SlowCatalog, Table
from support.nodes import TestNode

TIMING = Timing(term_ms=LONGEST_TERM_MS, redis_timeout_s=30, retry_first_s=0)
"""A term lasts as long as it may, since a step of the test may take as long as many polls."""
_UTC = ZoneInfo("UTC")
_TURNS = 20
"""Turns of the event loop after which everything that waits for neither Redis nor the test has finished."""


class Batch(Struct, frozen=True):
    """A claim, and the rows that were read right after it; None while the database is unavailable."""

    claim: Claim
    reading: Reading | None


class OurNode:
    """One node."""

    def __init__(
        self, stage: Stage, node_id: str, table: Table, state: Callable[[], State], tokens: set[float]
    ) -> None:
        self.id = node_id
        self.node = TestNode(TIMING, id_=node_id).node
        self.schedule = CheckedSchedule(stage.client, TIMING, stage.host, state, tokens, stage.reached)
        self.schedule.on_write = self._check_reads
        self.terms = Terms(stage.client, node_id, TIMING)
        self.term: Term | None = None
        self.epoch_lost = False
        """Whether Redis has lost the epoch since the last election."""
        self.cache = LastKnown(MB)
        self.catalog = SlowCatalog(table)
        self.sync = Sync(self.node, self.schedule, self.catalog, self.cache)
        self.batches: list[Batch] = []
        self.peeked: tuple[Claimed, ...] = ()
        self.readings: list[asyncio.Task[object]] = []
        self._stage, self._table = stage, table
        self._acted_on: dict[MonitorId, int] = {}
        """The number of the newest read that was acted on."""

    # --- claims

    def read(self, claim: Claim) -> Reading:
        """Read the batch of a claim, as the source does."""
        ids = [one.id for one in claim.claimed]
        reading = self._table.read(ids)
        self.cache.keep(ids, reading, self._stage.host.monotonic())
        return reading

    def planned(self, claim: Claim, reading: Reading) -> Plan:
        """Plan as the dispatcher does."""
        found = plan(claim, reading, _UTC, self.node.spacing.now, release_ms=TIMING.release_ms)
        if found.go_slots:
            self._stage.run(self.schedule.note_go_node())
            self.node.spacing.notice(claim.answered_at_s + TIMING.lease_ms / 1000)
            found = plan(claim, reading, _UTC, self.node.spacing.now, release_ms=TIMING.release_ms)
        return found

    # --- leadership

    def elect(self) -> None:
        """Do what the election does once a second."""
        if self.term and not self.term.is_over:
            if isinstance(self._stage.run(self.terms.extend(self.term)), str):
                self.step_down()
        else:
            self.step_down()
            taken = self._stage.run(self.terms.take())
            self.term = taken if isinstance(taken, Term) else None
        self.epoch_lost = False

    def step_down(self) -> None:
        """End the term, and with it what the leader was doing."""
        self.term = None
        self._stage.run(self._cancelled())

    async def _cancelled(self) -> None:
        for task in self.readings:
            task.cancel()
        await asyncio.gather(*self.readings, return_exceptions=True)
        self.readings.clear()

    # --- readings of a leader

    def begin(self, reading: Coroutine[Any, Any, object]) -> None:
        """Let a reading go on until it waits for its rows."""
        self._stage.run(self._begin(reading))

    async def _begin(self, reading: Coroutine[Any, Any, object]) -> None:
        self.readings.append(asyncio.create_task(reading))
        await self._until_idle()

    def arrive(self, which: int, *, available: bool = True) -> None:
        """Let the rows arrive that one reading waits for, or let it fail."""
        waiting = list(self.catalog.waiting.values())
        if waiting:
            waiting[which % len(waiting)].set_result(available)
            self._stage.run(self._until_idle())

    def finish_readings(self) -> None:
        """Let all rows arrive, until no reading is left."""
        while self.readings:
            self.arrive(0)

    async def _until_idle(self) -> None:
        turns = _TURNS
        while turns:
            turns = _TURNS if self.schedule.writing else turns - 1
            await asyncio.sleep(0)
        for task in [task for task in self.readings if task.done()]:
            self.readings.remove(task)
            with suppress(NotLeading, Unavailable):
                task.result()

    def _check_reads(self, ids: Sequence[MonitorId]) -> None:
        """Invariant 10: nothing is written by a read that began before another that was already acted on."""
        task = asyncio.current_task()
        assert task
        read = self.catalog.read_of.get(task)
        if read is None:  # on the strength of an event: as good as a read of now
            self.catalog.reads += 1
            read = self.catalog.reads
        for id_ in ids:
            assert self._acted_on.get(id_, 0) <= read, "invariant 10: the later read wins"
            self._acted_on[id_] = read
