"""Random steps of nodes, workers, people and faults, after each of which the invariants must hold."""

import json
from collections.abc import Coroutine, Sequence
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition
from msgspec.structs import replace

from peekaping_producer.asynq import keys as asynq
from peekaping_producer.asynq.message import task_id
from peekaping_producer.catalog.last_known import RECENT_PERIODS, RECENT_S
from peekaping_producer.catalog.reading import Reading
from peekaping_producer.errors import NotLeading
from peekaping_producer.leader.sync import Arrival
from peekaping_producer.model.cadence import cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.observe.outcomes import PLACED, Outcome
from peekaping_producer.redisdb.keys import CLAIMS, DUE, EPOCH, GO_SEEN, LEADER, LEASE, LEFT, REMOVED, STEP
from peekaping_producer.schedule.orders import Claim, Entry, drop
from peekaping_producer.schedule.store import LONGEST_TERM_MS
from properties import asynq_steps
from properties.model import SHORT_LIST, State
from properties.our_node import Batch, OurNode
from properties.reached import EXAMPLES, step
from properties.redis_state import StateReader
from properties.stage import Stage
from properties.table import Row, Table
from support.go_producer import EVENTS, GoProducer, GoTiming

IDS = [MonitorId(f"{n}{n}{n}{n}{n}{n}{n}{n}-0000-4000-8000-000000000000") for n in range(1, 4)]
INTERVALS_S = (20, 45, 60)
PASSING_MS = (1, 300, 1_000, 4_100, 5_100, 10_100, 20_000, 31_000, 70_000, 130_000, 3_700_000)
STEPS_MS = (800, 7_003, 90_000, 3_600_123)
LONGEST_WAIT_MS = 130_000
MINUTE_MS = 60_000
TOMBSTONE_MS = 3_600_000
CLOCKS_DIFFER_MS = 60_001
"""To be put back, a task that is in no list must be older by this than all that are in one."""
YES_NO = (False, True)
OUR_KEYS = (DUE, LEASE, CLAIMS, LEFT, LEADER, EPOCH, REMOVED, GO_SEEN, STEP)
ASYNQ_KEYS = (asynq.PENDING, asynq.ACTIVE, asynq.LEASE, asynq.ARCHIVED, asynq.WORKERS, asynq.QUEUES)
WORKS = ("runs", "dies", "dies unseen", "works off", *asynq_steps.ENDS)
"""What a worker does with the tasks that it takes; unseen: the key that lists its running tasks is damaged."""

Result = TypeVar("Result")
ids = st.sampled_from(IDS)
some_ids = st.lists(ids, min_size=1, max_size=3, unique=True)
ours = (0, 1)
limits = st.integers(1, 3)


class Fleet(RuleBasedStateMachine):
    """Two of our nodes, a Go node, a worker, and whatever may happen to them."""

    stage: ClassVar[Stage]

    def __init__(self) -> None:
        super().__init__()
        self.stage.reset()
        self.reached = self.stage.reached
        self.reached[EXAMPLES] += 1
        self.table = Table()
        self._read = StateReader(self.stage.redis, IDS)
        self.tokens: set[float] = set()
        self.nodes = [
            OurNode(self.stage, id_, self.table, self._read, self.tokens) for id_ in ("host-1-na", "host-2-nb")
        ]
        self.go = GoProducer(self.stage.client, self.table, GoTiming(), "host-3")
        self.go_claimed: list[tuple[str, int]] = []
        self.go_handled: list[tuple[str, int]] = []
        self.edits = 0
        self.next_from_ms: dict[MonitorId, float] = {}
        """When half a period has passed since a check of a monitor was put into the queue, by this host's clock."""
        self.free = set(IDS)
        """Monitors whose next check may be close to the last one: G1 exempts it (docs/reliability.md)."""
        self.gone_ms: dict[MonitorId, int] = {}
        """When a leader of ours removed a monitor that is not active, by this host's clock."""
        self.read_ms: dict[tuple[str, MonitorId], int] = {}
        self.settled: set[tuple[str, MonitorId]] = set()
        self.go_scores: set[tuple[str, float]] = set()
        self.torn: set[str] = set()
        """Tasks whose hash was deleted while a list held it: the next one is listed twice."""
        self.counter_lost = self.stepped_back = self.calmed = False
        for node in self.nodes:
            node.schedule.on_removed = self._removed

    @initialize()
    def begin(self) -> None:
        for id_, interval_s in zip(IDS, INTERVALS_S, strict=True):
            self._edit(id_, Row(interval_s, active=True, version=0))
        leader = self.nodes[0]
        leader.elect()
        self._sweep(leader)
        self.stage.pass_time(21_000)

    def teardown(self) -> None:
        for node in self.nodes:
            node.step_down()

    # --- time

    @step(ms=PASSING_MS, asleep=YES_NO)
    def time_passes(self, ms: int, *, asleep: bool) -> None:
        """Asleep, the leaders do not extend their terms."""
        self.stage.pass_time(ms)
        if not asleep:
            self._lead_on()

    @step(by_ms=STEPS_MS, back=YES_NO)
    def redis_clock_is_stepped(self, by_ms: int, *, back: bool) -> None:
        self.stage.step_clock(-by_ms if back else by_ms)
        self.free |= set(IDS)
        self.gone_ms.clear()
        self.stepped_back |= back
        self._forget_tokens()

    # --- our nodes: claims

    @step(node=ours, limit=limits, wait=YES_NO, note=YES_NO, available=YES_NO)
    def claim(self, node: int, limit: int, *, wait: bool, note: bool, available: bool) -> None:
        if wait:
            self._wait_for_due()
        self._claim(self.nodes[node], limit, note=note, available=available)

    @step(node=ours, together=YES_NO, available=YES_NO, worker=("idle", *WORKS))
    def check(self, node: int, worker: str, *, together: bool, available: bool) -> None:
        """Do all that a node does when something is due, or when all are; a worker may do something before."""
        if worker != "idle":
            self._work(len(IDS), worker)
        self._wait_for_due(together=together)
        self._check(self.nodes[node], len(IDS), available=available)

    check_again = check_once_more = check

    @step(node=ours, limit=limits, wait=YES_NO)
    def peek(self, node: int, limit: int, *, wait: bool) -> None:
        """Claim what was peeked before, and peek again, as a node without its database does."""
        one = self.nodes[node]
        if one.peeked:
            self._took(one, self.stage.run(one.schedule.claim_these(one.peeked)), available=False)
        if wait:
            self._wait_for_due()
        one.peeked = self.stage.run(one.schedule.peek(one.id, None, limit)).due

    @precondition(lambda self: any(node.batches for node in self.nodes))
    @step(batch=st.integers(0, 9), by_cache=YES_NO, reply_lost=YES_NO, not_read=st.sets(ids), invalid=st.sets(ids))
    def settle(
        self, batch: int, not_read: set[MonitorId], invalid: set[MonitorId], *, by_cache: bool, reply_lost: bool
    ) -> None:
        """Settle any claim, perhaps for the second time or long after it expired."""
        batches = [(one, batch) for one in self.nodes for batch in one.batches]
        one, found = batches[-1 - batch % len(batches)]
        reading = found.reading
        if by_cache or reading is None:
            reading = self._cached(one, found)
        else:
            wrong = {id_: "the test says so" for id_ in invalid if id_ in reading.found}
            later = dict.fromkeys(not_read, Outcome.DEFERRED_NOT_CACHED)
            found_now = {id_: row for id_, row in reading.found.items() if id_ not in wrong}
            reading = Reading(found_now, wrong, later, retries=reading.retries)
        one.schedule.reply_lost = reply_lost
        self._settle(one, found.claim, reading)

    settle_another = settle

    @step(node=ours, wait=YES_NO)
    def reclaim(self, node: int, *, wait: bool) -> None:
        if wait:
            self._wait_until(min(self._read().lease.values(), default=0))
        self.stage.run(self.nodes[node].schedule.reclaim())

    # --- our nodes: leadership

    @step(node=ours, what=("election", "resign", "late write"), id_=ids)
    def leadership(self, node: int, what: str, id_: MonitorId) -> None:
        """Stand for election or extend the term; resign; or go on with what it did as leader, after a suspension."""
        one, before = self.nodes[node], self._read().leader
        if what == "election":
            self._elect(one)
        elif what == "resign":
            one.step_down()
            assert self.stage.run(one.terms.resign()) == (before == one.id)
            assert self._read().leader == (None if before == one.id else before)
        elif before != one.id:
            entry = Entry(id_, cadence(id_, INTERVALS_S[0]), at_once=True, edited=True)
            self._refused(one.schedule.schedule(one.id, [entry]))
            self._refused(one.schedule.remove(one.id, [drop(id_)]))
            self._refused(one.schedule.end_step(one.id, 0))

    @precondition(lambda self: any(node.term for node in self.nodes))
    @step()
    def sweep(self) -> None:
        for one in self.nodes:
            if one.term:
                self._sweep(one)

    @precondition(lambda self: any(node.term for node in self.nodes))
    @step(kind=("event", "page", "clean"), of=some_ids)
    def leader_begins_to_read(self, kind: str, of: list[MonitorId]) -> None:
        for one in self.nodes:
            if one.term and len(one.readings) < 3:
                if kind == "event":
                    one.begin(one.sync.reconcile(one.term, of, lambda _: Arrival(at_once=True, edited=True)))
                elif kind == "page":
                    one.begin(one.sync.schedule_page(one.term, None, lambda _: Arrival()))
                else:
                    one.begin(one.sync.remove_inactive(one.term, of))

    @precondition(lambda self: any(node.catalog.waiting for node in self.nodes))
    @step(reading=st.integers(0, 2), available=YES_NO)
    def rows_arrive(self, reading: int, *, available: bool) -> None:
        for one in self.nodes:
            before = self._read()
            one.arrive(reading, available=available)
            if not available:
                assert self._read() == before, "invariant 6: a failed read changes nothing"

    more_rows_arrive = rows_arrive

    # --- people

    @step(id_=ids, interval_s=(*INTERVALS_S, None), active=YES_NO, event=YES_NO)
    def edit(self, id_: MonitorId, interval_s: int | None, *, active: bool, event: bool) -> None:
        """Create, change or delete a monitor. The event is acted on at once, or lost."""
        self._edit(id_, Row(interval_s, active, 0) if interval_s else None)
        for one in self.nodes:
            if event and one.term:
                one.finish_readings()
                one.begin(one.sync.reconcile(one.term, [id_], lambda _: Arrival(at_once=True, edited=True)))
                one.finish_readings()

    @step(id_=ids, revived=YES_NO)
    def delete(self, id_: MonitorId, *, revived: bool) -> None:
        """Delete a monitor. The leader cannot read it, and removes it on the strength of the event alone.

        A Go node that was suspended since it claimed the monitor may revive it, and a node without its database may
        still have it in its cache.
        """
        self._edit(id_, None)
        for one in self.nodes:
            if one.term:
                self._as_leader(one, one.sync.remove_unverified(one.term, [id_]))
        if revived:
            self._as_go(self.go.settle([(id_, self.stage.now_ms // MINUTE_MS * MINUTE_MS)]))
            for one in self.nodes:
                if not one.term:
                    self._wait_for_due()
                    self._check(one, len(IDS), available=False)

    @step(of=some_ids)
    def run_now(self, of: list[MonitorId]) -> None:
        active = [id_ for id_ in of if (row := self.table.rows.get(id_)) and row.active]
        self.stage.run(self.nodes[0].schedule.run_now(active))
        self.free |= set(active)

    @step(id_=ids, pending=YES_NO, event=YES_NO)
    def status_changes(self, id_: MonitorId, *, pending: bool, event: bool) -> None:
        """Let a check fail for the first time, or end that. The event is acted on at once, or lost; it is no edit."""
        row = self.table.rows.get(id_)
        if row is None:
            return
        self.table.rows[id_] = replace(row, pending=pending)
        self.free.add(id_)  # its period in force changes
        for one in self.nodes:
            if event and one.term:
                one.finish_readings()
                before = self._read()
                one.begin(one.sync.reconcile(one.term, [id_], lambda _: Arrival(pending=pending)))
                one.finish_readings()
                assert not row.active or self._read().lease == before.lease, "a change of status revokes no claim"

    # --- asynq

    @step(count=limits, what=WORKS)
    def worker(self, count: int, what: str) -> None:
        self._work(count, what)

    @step(what=("renew", "forward", "long", "short", "lost", "damaged", "repaired"))
    def queue(self, what: str) -> None:
        redis = self.stage.redis
        if what == "renew":
            asynq_steps.renew(redis, self._active(), self.stage.now_ms)
        elif what == "forward":
            asynq_steps.forward(redis)
        elif what == "lost":  # and others have filled it since
            redis.delete(asynq.PENDING)
            self.stage.pass_time(CLOCKS_DIFFER_MS)
            self._lead_on()
            asynq_steps.fill(redis, SHORT_LIST + 1, self.stage.now_ms)
        elif what in ("long", "short"):
            asynq_steps.fill(redis, SHORT_LIST + 1 if what == "long" else 0, self.stage.now_ms)
        else:
            redis.delete(asynq.WORKERS)
            if what == "damaged":
                asynq_steps.damage_workers(redis)

    # --- a Go node

    @step(what=("claim", "handle", "settle", "reclaim"))
    def go_produces(self, what: str) -> None:
        """Do one of its unfenced steps."""
        if what == "claim":
            claimed, now_ms = self._as_go(self.go.claim())
            self.go_claimed += [(id_, now_ms) for id_ in claimed]
        elif what == "reclaim":
            self._as_go(self.go.reclaim())
        elif what == "settle":
            self._as_go(self.go.settle(self.go_handled))
            self.go_handled.clear()
        elif self.go_claimed:
            id_, now_ms = self.go_claimed.pop(0)
            if next_ms := self._as_go(self.go.handle(id_, now_ms)):
                self.go_handled.append((id_, next_ms))

    @step(what=("campaign", "take office", "sweep", "hear", "resign"), id_=ids)
    def go_leads(self, what: str, id_: MonitorId) -> None:
        if what == "campaign":
            self._as_go(self.go.campaign())
        elif what == "resign":
            self._as_go(self.go.resign())
        elif self.go.leads and what == "take office":
            self._as_go(self.go.take_office())
        elif self.go.leads and what == "sweep":
            self._as_go(self.go.sweep())
        else:
            self._as_go(self.go.hear(f"{EVENTS}updated", json.dumps({"payload": {"id": id_}}).encode()))

    # --- faults

    @step(key=("everything", *OUR_KEYS, *ASYNQ_KEYS))
    def redis_loses(self, key: str) -> None:
        if key == "everything":
            self.stage.redis.flushall()
        else:
            self.stage.redis.delete(key)
        lost = OUR_KEYS if key == "everything" else (key,)
        if DUE in lost or LEASE in lost:
            self.free |= set(IDS)
        if REMOVED in lost:
            self.gone_ms.clear()
        for node in self.nodes:
            node.epoch_lost |= EPOCH in lost
        if CLAIMS in lost:
            self.counter_lost = True
            self.stage.pass_time(1)  # within a millisecond, a token could come again
        self._forget_tokens()

    @step(
        of=some_ids,
        how=("deleted", "unlisted", "no msg", "unknown state", "string", "list"),
        long=YES_NO,
        all_checked=YES_NO,
    )
    def tasks_are_damaged(self, of: list[MonitorId], how: str, *, long: bool, all_checked: bool) -> None:
        """Damage tasks, in a long pending list or in the one that is there; a node may settle them together then."""
        state, redis = self._read(), self.stage.redis
        if long:
            asynq_steps.fill(redis, SHORT_LIST + 1, self.stage.now_ms)
        for id_ in of:
            key = asynq.TASK + task_id(id_)
            if how == "unlisted":
                redis.lrem(asynq.PENDING, 0, task_id(id_))
                continue
            redis.delete(key)
            if how == "deleted" and (id_ in state.pending or id_ in state.active):
                self.torn.add(id_)
            elif how == "no msg":
                redis.hset(key, "state", "pending")
            elif how == "unknown state":
                redis.hset(key, mapping={"msg": b"earlier", "state": "pondering"})
            elif how == "string":
                redis.set(key, "pending")
            elif how == "list":
                redis.rpush(key, "msg", "state")
        if all_checked:
            self._wait_for_due(together=True)
            self._check(self.nodes[0], len(IDS), available=True)

    # --- all is well again

    @precondition(lambda self: not self.calmed)
    @step()
    def all_work_calmly(self) -> None:
        """Nothing is lost for ever: with one node that leads, each active monitor is checked again (invariant 3)."""
        self.calmed = True
        leader = self.nodes[0]
        self.go_claimed.clear()
        self.go_handled.clear()
        self.stage.redis.delete(asynq.WORKERS)
        asynq_steps.fill(self.stage.redis, 0, self.stage.now_ms)
        for one in self.nodes:
            one.step_down()
            one.batches.clear()
        for _ in range(2):  # the node that led before has its time, and once more after a step back
            self.stage.pass_time(LONGEST_TERM_MS + 1)
            leader.elect()
        checked: set[MonitorId] = set()
        for round_ in range(6):
            leader.elect()
            assert leader.term, "nobody leads, and no other term lasts"
            for one in self.nodes:
                batch = self._claim(one, len(IDS), note=True, available=True)
                if batch and batch.reading:
                    checked |= self._settle(one, batch.claim, batch.reading)
            self.stage.run(leader.schedule.reclaim())
            if round_ < 2:
                self._sweep(leader)
            self.stage.pass_time(30_000)
        active = {id_ for id_, row in self.table.rows.items() if row.active}
        assert self._read().scheduled == active
        assert checked >= active, "a check is lost for ever"

    # --- what must hold after each step

    @invariant()
    def invariants_hold(self) -> None:
        state = self._read()
        for scores in (state.due, state.lease):
            for id_, score in scores.items():
                assert score % 1000 != 0 or (id_, score) in self.go_scores, "invariant 11: no whole second is ours"
        assert not state.due.keys() & state.lease.keys(), "invariant 3: due or claimed, never both"
        self.torn &= {*state.pending, *state.active}
        for id_ in set(IDS) - self.torn:
            assert (state.pending + state.active).count(id_) <= 1, "invariant 4: one task, in one place"

    # --- parts of the steps

    def _elect(self, one: OurNode) -> None:
        before, led, epoch_lost = self._read(), one.term is not None and not one.term.is_over, one.epoch_lost
        one.elect()
        leads = one.term is not None
        if led:
            holds = before.leader == one.id and not epoch_lost
            assert leads == holds, "invariant 9: a term is extended by its node only"
        else:
            assert leads == (before.leader in (None, one.id)), "invariant 9: a term begins when no other lasts"
        assert not leads or self._read().leader == one.id

    def _claim(self, one: OurNode, limit: int, *, note: bool, available: bool) -> Batch | None:
        """Claim, and let the other nodes know of a step of the clock, as the dispatcher does."""
        claim = self.stage.run(one.schedule.claim(limit))
        if claim.step and note:
            self.stage.run(one.schedule.note_step(claim.step))
        return self._took(one, claim, available=available)

    def _work(self, count: int, what: str) -> None:
        """Take some tasks and run them, die with them, or end them in one of asynq's ways; or work all off."""
        redis, now_ms = self.stage.redis, self.stage.now_ms
        for _ in range(redis.llen(asynq.PENDING) if what == "works off" else count):
            asynq_steps.take(redis, now_ms)
        running = self._active()
        if what in ("dies", "dies unseen"):
            asynq_steps.die(redis, running, now_ms)
            if what == "dies unseen":
                asynq_steps.damage_workers(redis)
        elif what != "runs":
            for id_ in running:
                asynq_steps.end(redis, id_, "done" if what == "works off" else what, now_ms)

    def _check(self, one: OurNode, limit: int, *, available: bool) -> None:
        if batch := self._claim(one, limit, note=True, available=available):
            self._settle(one, batch.claim, batch.reading or self._cached(one, batch))

    def _took(self, one: OurNode, claim: Claim, *, available: bool) -> Batch | None:
        one.node.spacing.update(go_seen=claim.go_seen, at_s=claim.answered_at_s)
        if not claim.claimed:
            return None
        batch = Batch(claim, one.read(claim) if available else None)
        one.batches.append(batch)
        if available:
            self.read_ms |= {(one.id, claimed.id): self.stage.host.now_ms for claimed in claim.claimed}
        return batch

    def _settle(self, one: OurNode, claim: Claim, reading: Reading) -> set[MonitorId]:
        """Settle a batch; return the monitors of which a check is in the queue now, or still runs."""
        planned = one.planned(claim, reading)
        self.stage.run(one.schedule.settle(claim, planned.orders))
        state = self._read()
        in_queue = set()
        for order, outcome in zip(planned.orders, one.schedule.carried_out, strict=True):
            if outcome not in (Outcome.LOST, Outcome.FAILED):
                assert (claim.token, order.id) not in self.settled, "invariants 2 and 3: a claim ends once"
                self.settled.add((claim.token, order.id))
            if outcome in PLACED:
                self._placed(state, order.id, reading)
            if outcome in PLACED or outcome is Outcome.RUNNING:
                in_queue.add(order.id)
        return in_queue

    def _placed(self, state: State, id_: MonitorId, reading: Reading) -> None:
        monitor, now_ms = reading.found[id_].monitor, self.stage.host.now_ms
        retry = reading.retries.get(id_)
        pending = retry is not None and retry.pending
        period_ms = (retry.seconds if retry and pending else monitor.interval) * 1000
        if id_ not in self.free:
            assert now_ms >= self.next_from_ms[id_], "invariant 1: two checks within half a period"
        assert period_ms / 2 <= state.due[id_] - state.now_ms < period_ms * 1.5, "invariant 1: the next slot"
        self.next_from_ms[id_] = now_ms + period_ms / 2
        row = self.table.rows.get(id_)
        self.free.discard(id_)
        if row is None or monitor.name != f"version {row.version}" or row.pending != pending:
            self.free.add(id_)  # changed since it was read: its grid may change
        task = state.tasks[id_]
        assert task.state == "pending", "invariant 4: the new task waits"
        assert monitor.name.encode() in task.message
        if id_ not in self.torn and len(state.pending) <= SHORT_LIST:
            assert state.pending.count(id_) == 1, "invariant 4: and a worker can take it"
        gone_ms = self.gone_ms.get(id_)
        assert gone_ms is None or now_ms - gone_ms >= TOMBSTONE_MS, "invariant 12: it was removed, and is enqueued"

    def _cached(self, one: OurNode, batch: Batch) -> Reading:
        """Return what the cache of a node knows of a batch, in an outage that has just begun."""
        now_s = self.stage.host.monotonic()
        reading = one.cache.read([claimed.id for claimed in batch.claim.claimed], now_s, now_s)
        for id_, snapshot in reading.found.items():
            recent_ms = max(RECENT_PERIODS * snapshot.monitor.interval, RECENT_S) * 1000
            assert self.stage.host.now_ms - self.read_ms[one.id, id_] <= recent_ms, "invariant 12: read recently"
            assert snapshot.monitor.active, "invariant 12: active when it was read"
        return reading

    def _wait_for_due(self, *, together: bool = False) -> None:
        """Let time pass until something is due, or all, if it will be soon."""
        chosen = max if together else min
        self._wait_until(chosen(self._read().due.values(), default=0))

    def _wait_until(self, at_ms: float) -> None:
        wait_ms = at_ms - self.stage.now_ms
        if 0 < wait_ms < LONGEST_WAIT_MS:
            self.stage.pass_time(int(wait_ms) + 1)
        self._lead_on()

    def _lead_on(self) -> None:
        for one in self.nodes:
            if one.term:
                one.elect()

    def _edit(self, id_: MonitorId, row: Row | None) -> None:
        self.edits += 1
        if row is None:
            self.table.rows.pop(id_, None)
        else:
            self.table.rows[id_] = Row(row.interval_s, row.active, self.edits)
        if row and row.active:
            self.gone_ms.pop(id_, None)
        self.free.add(id_)

    def _sweep(self, one: OurNode) -> None:
        """Sweep as the leader does."""
        assert one.term
        schedule, sync, term = one.schedule, one.sync, one.term
        noted_ms = self.stage.run(schedule.step_noted_ms())
        one.finish_readings()
        one.begin(sync.schedule_page(term, None, lambda _: Arrival()))
        one.finish_readings()
        members = sorted(MonitorId(id_) for id_ in self._read().scheduled)
        if members:
            one.begin(sync.remove_inactive(term, members))
            one.finish_readings()
            self._as_leader(one, schedule.relist(one.id, members))
        if noted_ms is not None:
            self._as_leader(one, schedule.end_step(one.id, noted_ms))

    def _as_leader(self, one: OurNode, doing: Coroutine[Any, Any, object]) -> None:
        try:
            self.stage.run(doing)
        except NotLeading:
            assert self._read().leader != one.id

    def _refused(self, doing: Coroutine[Any, Any, object]) -> None:
        before = self._read()
        with pytest.raises(NotLeading):
            self.stage.run(doing)
        assert self._read() == before, "invariant 9: a refused write changes nothing"

    def _removed(self, gone: Sequence[MonitorId]) -> None:
        for id_ in gone:
            row = self.table.rows.get(id_)
            if not (row and row.active):
                self.gone_ms[id_] = self.stage.host.now_ms

    def _as_go(self, doing: Coroutine[Any, Any, Result]) -> Result:
        """Do something as a Go node, and note what it wrote."""
        before = self._read()
        result = self.stage.run(doing)
        after = self._read()
        for was, is_ in ((before.due, after.due), (before.lease, after.lease)):
            self.go_scores |= is_.items() - was.items()
            self.free |= {MonitorId(id_) for id_, _ in was.items() ^ is_.items()}
        return result

    def _active(self) -> list[MonitorId]:
        """Return the monitors whose tasks a worker runs."""
        state = self._read()
        return [id_ for id_ in IDS if id_ in state.active and (task := state.tasks.get(id_)) and task.state == "active"]

    def _forget_tokens(self) -> None:
        """If the counter began again and the clock shows the same times again, a token may come again."""
        if self.counter_lost and self.stepped_back:
            self.tokens.clear()
            self.settled.clear()
            for node in self.nodes:
                node.batches.clear()
