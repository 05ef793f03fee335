"""Random steps of nodes, workers, people and faults, after each of which the invariants must hold."""

import json
from collections.abc import Coroutine, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
from properties.model import SHORT_LIST, State
from properties.our_node import OurNode
from properties.redis_state import GROUP, StateReader
from properties.stage import Stage
from properties.table import Row, Table
from support.asynq_states import GROUP_NAME, WORKER
from support.go_producer import EVENTS, GoProducer, GoTiming

IDS = [MonitorId(f"{n}{n}{n}{n}{n}{n}{n}{n}-0000-4000-8000-000000000000") for n in range(1, 5)]
INTERVALS_S = (20, 45, 60)
PASSING_MS = (1, 300, 1_000, 4_100, 5_100, 10_100, 20_000, 31_000, 70_000, 130_000, 3_700_000)
STEPS_MS = (800, 7_003, 90_000, 3_600_123)
TOMBSTONE_MS = 3_600_000

Result = TypeVar("Result")
ids = st.sampled_from(IDS)
some_ids = st.lists(ids, min_size=1, max_size=3, unique=True)
ours = st.sampled_from([0, 1])
which = st.integers(0, 3)


class Fleet(RuleBasedStateMachine):
    """Two of our nodes, a Go node, a worker, and whatever may happen to them."""

    stage: ClassVar[Stage]

    def __init__(self) -> None:
        super().__init__()
        self.stage.reset()
        self.table = Table()
        self._read = StateReader(self.stage.redis, IDS)
        self.tokens: set[float] = set()
        self.nodes = [OurNode(self.stage, id_, self.table, self._read, self.tokens) for id_ in ("host-1-na", "host-2-nb")]
        self.go = GoProducer(self.stage.client, self.table, GoTiming(), "host-3")
        self.go_claimed: list[tuple[str, int]] = []
        self.go_handled: list[tuple[str, int]] = []
        self.edits = 0
        self.checked_ms: dict[MonitorId, int] = {}
        """When a check of a monitor was last put into the queue, by this host's clock."""
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
        for n, id_ in enumerate(IDS[:3]):
            self._edit(id_, Row(INTERVALS_S[n], active=True, version=0))
        leader = self.nodes[0]
        leader.elect()
        self._sweep(leader)
        self.stage.pass_time(21_000)

    def teardown(self) -> None:
        for node in self.nodes:
            node.step_down()

    # --- time

    @rule(ms=st.sampled_from(PASSING_MS))
    def time_passes(self, ms: int) -> None:
        self.stage.pass_time(ms)

    @rule(by_ms=st.sampled_from(STEPS_MS), back=st.booleans())
    def redis_clock_is_stepped(self, by_ms: int, *, back: bool) -> None:
        self.stage.step_clock(-by_ms if back else by_ms)
        self.free |= set(IDS)
        self.gone_ms.clear()
        self.stepped_back |= back
        self._forget_tokens()

    # --- our nodes: claims

    @rule(node=ours, limit=st.integers(1, 5), note=st.booleans())
    def claim(self, node: int, limit: int, *, note: bool) -> None:
        one = self.nodes[node]
        self._took(one, self.stage.run(one.schedule.claim(limit)), note=note)

    @rule(node=ours, limit=st.integers(1, 5))
    def peek(self, node: int, limit: int) -> None:
        one = self.nodes[node]
        one.peeked = self.stage.run(one.schedule.peek(one.id, None, limit)).due

    @precondition(lambda self: any(node.peeked for node in self.nodes))
    @rule(node=ours)
    def claim_what_was_peeked(self, node: int) -> None:
        one = self.nodes[node]
        if one.peeked:
            self._took(one, self.stage.run(one.schedule.claim_these(one.peeked)), note=False)
            one.peeked = ()

    @precondition(lambda self: any(node.batches for node in self.nodes))
    @rule(node=ours, batch=which, source=st.sampled_from(["database", "cache"]), not_read=st.sets(ids), invalid=st.sets(ids))
    def settle(
        self,
        node: int,
        batch: int,
        source: Literal["database", "cache"],
        not_read: set[MonitorId],
        invalid: set[MonitorId],
    ) -> None:
        one = self.nodes[node]
        if not one.batches:
            one = self.nodes[1 - node]
        found = one.batches[batch % len(one.batches)]
        claimed = [claimed.id for claimed in found.claim.claimed]
        if source == "cache":
            now_s = self.stage.host.monotonic()
            reading = one.cache.read(claimed, now_s, now_s)
            self._check_cache(one, reading)
        else:
            wrong = {id_: "the test says so" for id_ in invalid if id_ in found.reading.found}
            later = {id_: Outcome.DEFERRED_NOT_CACHED for id_ in not_read}
            read = {id_: row for id_, row in found.reading.found.items() if id_ not in wrong}
            reading = Reading(read, wrong, later)
        self._settle(one, found.claim, reading)

    @rule(node=ours)
    def reclaim(self, node: int) -> None:
        self.stage.run(self.nodes[node].schedule.reclaim())

    # --- our nodes: leadership

    @rule(node=ours)
    def election(self, node: int) -> None:
        one, before = self.nodes[node], self._read()
        led = one.term is not None and not one.term.is_over
        one.elect()
        leads = one.term is not None
        if led:
            holds = before.leader == one.id and not one.epoch_lost
            assert leads == holds, "invariant 9: a term is extended by its node only"
        else:
            assert leads == (before.leader in (None, one.id)), "invariant 9: a term begins when no other lasts"
        one.epoch_lost = False
        assert not leads or self._read().leader == one.id

    @precondition(lambda self: any(node.term for node in self.nodes))
    @rule()
    def leader_resigns(self) -> None:
        for one in self.nodes:
            if one.term:
                one.step_down()
                before = self._read().leader
                assert self.stage.run(one.terms.resign()) == (before == one.id)
                assert self._read().leader == (None if before == one.id else before)

    @precondition(lambda self: any(node.term for node in self.nodes))
    @rule()
    def sweep(self) -> None:
        for one in self.nodes:
            if one.term:
                self._sweep(one)

    @precondition(lambda self: any(node.term for node in self.nodes))
    @rule(kind=st.sampled_from(["event", "page", "clean"]), of=some_ids)
    def leader_reads(self, kind: str, of: list[MonitorId]) -> None:
        for one in self.nodes:
            if one.term and len(one.readings) < 3:
                if kind == "event":
                    one.begin(one.sync.reconcile(one.term, of, lambda _: Arrival(at_once=True, edited=True)))
                elif kind == "page":
                    one.begin(one.sync.schedule_page(one.term, None, lambda _: Arrival()))
                else:
                    one.begin(one.sync.remove_inactive(one.term, of))

    @precondition(lambda self: any(node.catalog.waiting for node in self.nodes))
    @rule(reading=which, available=st.booleans())
    def rows_arrive(self, reading: int, *, available: bool) -> None:
        for one in self.nodes:
            before = self._read()
            one.arrive(reading, available=available)
            if not available:
                assert self._read() == before, "invariant 6: a failed read changes nothing"

    @precondition(lambda self: any(node.term for node in self.nodes))
    @rule(id_=ids)
    def event_says_gone(self, id_: MonitorId) -> None:
        row = self.table.rows.get(id_)
        for one in self.nodes:
            if one.term and not (row and row.active):
                self._as_leader(one, one.sync.remove_unverified(one.term, [id_]))

    @rule(node=ours, id_=ids)
    def write_without_leading(self, node: int, id_: MonitorId) -> None:
        """A node that was suspended goes on with what it did as leader."""
        one = self.nodes[node]
        if self._read().leader != one.id:
            entry = Entry(id_, cadence(id_, INTERVALS_S[0]), at_once=True, edited=True)
            self._refused(one.schedule.schedule(one.id, [entry]))
            self._refused(one.schedule.remove(one.id, [drop(id_)]))
            self._refused(one.schedule.end_step(one.id, 0))

    # --- people

    @rule(id_=ids, interval_s=st.sampled_from(INTERVALS_S), active=st.booleans())
    def edit(self, id_: MonitorId, interval_s: int, *, active: bool) -> None:
        self._edit(id_, Row(interval_s, active=active, version=0))

    @rule(id_=ids)
    def delete(self, id_: MonitorId) -> None:
        self._edit(id_, None)

    @rule(of=some_ids)
    def run_now(self, of: list[MonitorId]) -> None:
        active = [id_ for id_ in of if (row := self.table.rows.get(id_)) and row.active]
        self.stage.run(self.nodes[0].schedule.run_now(active))
        self.free |= set(active)

    # --- a worker

    @rule()
    def worker_takes(self) -> None:
        redis, now_s = self.stage.redis, self.stage.now_ms // 1000
        task = redis.rpoplpush(asynq.PENDING, asynq.ACTIVE)
        if task:
            key = asynq.TASK + task.decode()
            if redis.type(key) == b"hash" and redis.hexists(key, "msg"):
                redis.hset(key, "state", "active")
                redis.hdel(key, "pending_since")
                redis.zadd(asynq.LEASE, {task: now_s + 30})
            else:
                redis.lrem(asynq.ACTIVE, 0, task)

    @precondition(lambda self: self._active())
    @rule(task=which, end=st.sampled_from(["done", "archived", "retry", "completed", "scheduled", "aggregating", "requeued"]))
    def worker_ends(self, task: int, end: str) -> None:
        running = self._active()
        id_ = running[task % len(running)]
        key, name, redis = asynq.TASK + task_id(id_), task_id(id_), self.stage.redis
        redis.lrem(asynq.ACTIVE, 0, name)
        redis.zrem(asynq.LEASE, name)
        if end == "done":
            redis.delete(key)
        elif end == "requeued":
            redis.rpush(asynq.PENDING, name)
            redis.hset(key, "state", "pending")
        else:
            sets = {
                "archived": asynq.ARCHIVED,
                "retry": asynq.RETRY,
                "completed": asynq.COMPLETED,
                "scheduled": asynq.SCHEDULED,
                "aggregating": GROUP,
            }
            redis.zadd(sets[end], {name: self.stage.now_ms // 1000})
            redis.hset(key, mapping={"state": end, "group": GROUP_NAME})

    @rule()
    def worker_renews(self) -> None:
        redis, active = self.stage.redis, self._active()
        redis.delete(asynq.WORKERS, WORKER)
        if active:
            redis.zadd(asynq.WORKERS, {WORKER: self.stage.now_ms // 1000 + 5})
            redis.hset(WORKER, mapping={task_id(id_): "" for id_ in active})
            redis.pexpire(WORKER, 5_000)
            redis.zadd(asynq.LEASE, {task_id(id_): self.stage.now_ms // 1000 + 30 for id_ in active})

    @rule()
    def asynq_forwards(self) -> None:
        """Asynq puts what it had scheduled back into the queue."""
        for key in (asynq.RETRY, asynq.SCHEDULED):
            for name in self.stage.redis.zrange(key, 0, -1):
                self.stage.redis.zrem(key, name)
                if self.stage.redis.type(asynq.TASK + name.decode()) == b"hash":
                    self.stage.redis.lpush(asynq.PENDING, name)
                    self.stage.redis.hset(asynq.TASK + name.decode(), "state", "pending")

    @rule(long=st.booleans())
    def queue_is(self, *, long: bool) -> None:
        """Long, by tasks of others, or short again."""
        redis = self.stage.redis
        others = [f"{task_id(MonitorId(''))}other-{n}" for n in range(SHORT_LIST + 1)]
        for name in others:
            redis.lrem(asynq.PENDING, 0, name)
        if long:
            redis.lpush(asynq.PENDING, *others)

    # --- a Go node

    @rule()
    def go_claims(self) -> None:
        claimed, now_ms = self._as_go(self.go.claim())
        self.go_claimed += [(id_, now_ms) for id_ in claimed]

    @precondition(lambda self: self.go_claimed)
    @rule()
    def go_handles(self) -> None:
        id_, now_ms = self.go_claimed.pop(0)
        next_ms = self._as_go(self.go.handle(id_, now_ms))
        if next_ms:
            self.go_handled.append((id_, next_ms))

    @precondition(lambda self: self.go_handled)
    @rule()
    def go_settles(self) -> None:
        self._as_go(self.go.settle(self.go_handled))
        self.go_handled.clear()

    @rule()
    def go_reclaims(self) -> None:
        self._as_go(self.go.reclaim())

    @rule()
    def go_campaigns(self) -> None:
        self._as_go(self.go.campaign())

    @precondition(lambda self: self.go.leads)
    @rule(what=st.sampled_from(["take office", "sweep", "hear", "resign"]), id_=ids)
    def go_leads(self, what: str, id_: MonitorId) -> None:
        if what == "take office":
            self._as_go(self.go.take_office())
        elif what == "sweep":
            self._as_go(self.go.sweep())
        elif what == "resign":
            self._as_go(self.go.resign())
        else:
            self._as_go(self.go.hear(f"{EVENTS}updated", json.dumps({"payload": {"id": id_}}).encode()))

    # --- faults

    @rule()
    def flush(self) -> None:
        self.stage.redis.flushall()
        self._lost(DUE, LEASE, REMOVED, CLAIMS, EPOCH)
        self.torn.clear()

    @rule(
        key=st.sampled_from(
            [DUE, LEASE, CLAIMS, LEFT, LEADER, EPOCH, REMOVED, GO_SEEN, STEP]
            + [asynq.PENDING, asynq.ACTIVE, asynq.LEASE, asynq.ARCHIVED, asynq.WORKERS, asynq.QUEUES]
        )
    )
    def key_is_deleted(self, key: str) -> None:
        self.stage.redis.delete(key)
        self._lost(key)

    @rule(id_=ids)
    def task_is_deleted(self, id_: MonitorId) -> None:
        state = self._read()
        self.stage.redis.delete(asynq.TASK + task_id(id_))
        if id_ in state.pending or id_ in state.active:
            self.torn.add(id_)

    @rule(id_=ids, how=st.sampled_from(["no msg", "unknown state", "string", "list"]))
    def task_is_damaged(self, id_: MonitorId, how: str) -> None:
        key, redis = asynq.TASK + task_id(id_), self.stage.redis
        redis.delete(key)
        if how == "no msg":
            redis.hset(key, "state", "pending")
        elif how == "unknown state":
            redis.hset(key, mapping={"msg": b"earlier", "state": "pondering"})
        elif how == "string":
            redis.set(key, "pending")
        else:
            redis.rpush(key, "msg", "state")

    @rule(damaged=st.booleans())
    def list_of_workers_is(self, *, damaged: bool) -> None:
        self.stage.redis.delete(asynq.WORKERS)
        if damaged:
            self.stage.redis.set(asynq.WORKERS, "damaged")

    # --- all is well again

    @precondition(lambda self: not self.calmed)
    @rule()
    def all_work_calmly(self) -> None:
        """Nothing is lost for ever: with one node that leads, each active monitor is checked again (invariant 3)."""
        self.calmed = True
        leader = self.nodes[0]
        self.go_claimed.clear()
        self.go_handled.clear()
        self.list_of_workers_is(damaged=False)
        self.queue_is(long=False)
        for one in self.nodes:
            one.step_down()
            one.batches.clear()
        self.stage.pass_time(10_100)
        checked: set[MonitorId] = set()
        for round_ in range(6):
            leader.elect()
            assert leader.term
            for one in self.nodes:
                self._took(one, self.stage.run(one.schedule.claim(50)), note=True)
                for batch in one.batches:
                    checked |= self._settle(one, batch.claim, batch.reading)
                one.batches.clear()
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

    def _took(self, one: OurNode, claim: Claim, *, note: bool) -> None:
        one.take_over(claim)
        if claim.step and note:
            self.stage.run(one.schedule.note_step(claim.step))
        for claimed in claim.claimed:
            self.read_ms[one.id, claimed.id] = self.stage.host.now_ms

    def _settle(self, one: OurNode, claim: Claim, reading: Reading) -> set[MonitorId]:
        """Settle a batch; return the monitors of which a check is in the queue now, or still runs."""
        planned = one.planned(claim, reading)
        settlement = self.stage.run(one.schedule.settle(claim, planned.orders))
        state = self._read()
        in_queue = set()
        for order, outcome in zip(planned.orders, settlement.outcomes, strict=True):
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
        period_ms = monitor.interval * 1000
        if id_ not in self.free:
            assert now_ms - self.checked_ms[id_] >= period_ms / 2, "invariant 1: two checks within half a period"
        assert period_ms / 2 <= state.due[id_] - state.now_ms < period_ms * 1.5, "invariant 1: the next slot"
        self.checked_ms[id_] = now_ms
        row = self.table.rows.get(id_)
        self.free.discard(id_)
        if row is None or monitor.name != f"version {row.version}":
            self.free.add(id_)  # edited since it was read: its grid may change
        task = state.tasks[id_]
        assert task.state == "pending", "invariant 4: the new task waits"
        assert monitor.name.encode() in task.message
        if id_ not in self.torn and len(state.pending) <= SHORT_LIST:
            assert state.pending.count(id_) == 1, "invariant 4: and a worker can take it"
        gone_ms = self.gone_ms.get(id_)
        assert gone_ms is None or now_ms - gone_ms >= TOMBSTONE_MS, "invariant 12: it was removed, and is enqueued"

    def _check_cache(self, one: OurNode, reading: Reading) -> None:
        for id_, snapshot in reading.found.items():
            read_ms = self.read_ms[one.id, id_]
            recent_ms = max(RECENT_PERIODS * snapshot.monitor.interval, RECENT_S) * 1000
            assert self.stage.host.now_ms - read_ms <= recent_ms, "invariant 12: read recently"
            assert snapshot.monitor.active, "invariant 12: active when it was read"

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

    def _lost(self, *keys: str) -> None:
        """Take note of what a fault took from Redis."""
        if DUE in keys or LEASE in keys:
            self.free |= set(IDS)
        if REMOVED in keys:
            self.gone_ms.clear()
        for node in self.nodes:
            node.epoch_lost |= EPOCH in keys
        if CLAIMS in keys:
            self.counter_lost = True
            self.stage.pass_time(1)  # within a millisecond, a token could come again
        self._forget_tokens()

    def _forget_tokens(self) -> None:
        """If the counter began again and the clock shows the same times again, a token may come again."""
        if self.counter_lost and self.stepped_back:
            self.tokens.clear()
            self.settled.clear()
            for node in self.nodes:
                node.batches.clear()
