"""A node leads whenever nobody else does, and what a leader does lives exactly as long as its term (invariant 9)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from msgspec.structs import replace
from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.errors import NotLeading, Unavailable
from peekaping_producer.fleet.signals import signals_loop
from peekaping_producer.leader.duty import Duty as LeaderDuty
from peekaping_producer.leader.election import Election
from peekaping_producer.leader.term import Term, Terms
from peekaping_producer.node.stop import Bell
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.redisdb.keys import GO_SEEN, LEADER
from peekaping_producer.timing import Timing
from support.nodes import LONG_S, TestNode, connected, running
from support.waiting import until

TIMING = Timing(term_ms=10_000, election_every_s=0.05, retry_first_s=0.01, retry_cap_s=0.05, redis_timeout_s=10)
"""A term that a busy machine does not lose."""
RESTARTED = "leader task failed, restarting"
TAKEN, LOST, RESIGNED, FOLLOWS = "leadership taken", "leadership lost", "leadership resigned", "another node leads"


class Duty:
    """A leader's duty that does nothing, and notes when it begins and ends."""

    def __init__(self) -> None:
        self.began: list[Term] = []
        self.ended: list[Term] = []

    @property
    def at_work(self) -> bool:
        return len(self.began) > len(self.ended)

    async def __call__(self, term: Term) -> None:
        self.began.append(term)
        try:
            await asyncio.sleep(LONG_S)
        finally:
            self.ended.append(term)


class Failing(Duty):
    """One that fails at first, this many times."""

    def __init__(self, error: Exception, times: int) -> None:
        super().__init__()
        self._error = error
        self._times = times

    async def __call__(self, term: Term) -> None:
        if len(self.began) < self._times:
            self.began.append(term)
            self.ended.append(term)
            raise self._error
        await super().__call__(term)


def election(
    test: TestNode, redis: Redis, duties: Mapping[str, Callable[[Term], Awaitable[None]]], vacant: Bell | None = None
) -> Election:
    terms = Terms(redis, test.node.id, test.node.timing)
    return Election(test.node, terms, vacant or test.node.stop.bell(), duties_of(test, duties))


def duties_of(test: TestNode, duties: Mapping[str, Callable[[Term], Awaitable[None]]]) -> list[LeaderDuty]:
    return [LeaderDuty(name, run, test.node.database_outage.user()) for name, run in duties.items()]


def leads(test: TestNode) -> bool:
    """Return what the node reports of itself to others."""
    return test.node.status.leading


async def test_duties_begin_with_the_term_and_end_with_it(redis: Redis) -> None:
    test, one, two = TestNode(TIMING), Duty(), Duty()
    async with asyncio.TaskGroup() as group:
        group.create_task(election(test, redis, {"one": one, "two": two}).loop())
        await until(lambda: one.at_work and two.at_work)
        assert one.began == two.began
        (term,) = one.began
        assert term.node_id == test.node.id
        assert leads(test)
        assert await redis.get(LEADER) == test.node.id.encode()
        test.stop.set()
    assert (one.ended, two.ended) == ([term], [term])
    assert term.is_over
    assert not leads(test)
    assert not await redis.exists(LEADER)
    assert [line["event"] for line in test.lines] == [TAKEN, RESIGNED]


async def test_a_term_is_extended_for_as_long_as_the_node_lives(redis: Redis) -> None:
    test, duty = TestNode(TIMING), Duty()
    async with running(election(test, redis, {"one": duty}).loop()):
        await until(lambda: duty.at_work)
        (term,) = duty.began
        for _ in range(5):
            until_s = term.lasts_until_s
            await redis.pexpire(LEADER, 5000)
            await until(lambda before=until_s: term.lasts_until_s > before)  # type: ignore[misc]
            assert await redis.pttl(LEADER) > 5000
        assert duty.began == [term]
        assert duty.at_work


async def test_a_node_that_stops_follows_no_more(redis: Redis) -> None:
    await redis.set(LEADER, "other-1-n0", px=60_000)
    test, duty = TestNode(TIMING), Duty()
    async with asyncio.TaskGroup() as group:
        group.create_task(election(test, redis, {"one": duty}).loop())
        await test.until_logged(FOLLOWS)
        test.stop.set()
    assert await redis.get(LEADER) == b"other-1-n0"
    assert not duty.began
    assert [line["event"] for line in test.lines] == [FOLLOWS]


# --- duties that fail


async def test_a_duty_that_fails_is_started_again_and_ends_neither_the_others_nor_the_term(redis: Redis) -> None:
    test, failing, other = TestNode(TIMING), Failing(ValueError("a bug"), 3), Duty()
    async with running(election(test, redis, {"failing": failing, "other": other}).loop()):
        await until(lambda: failing.at_work)
        assert len(failing.began) == 4
        assert len(set(map(id, failing.began))) == 1, "all in one term"
        assert len(other.began) == 1
        assert other.at_work
    (line,) = test.logged(RESTARTED)
    assert line["loop"] == "failing"
    assert "a bug" in line["exception"]
    assert test.node.tally.total[Outcome.LOOP_FAILED] == 3
    assert len(test.logged(TAKEN)) == 1
    assert not test.logged(LOST)


async def test_a_duty_without_its_database_is_started_again_and_logged_once(redis: Redis) -> None:
    outage = Unavailable("database", "no answer within 2 s")
    test, failing, other = TestNode(TIMING), Failing(outage, 4), Duty()
    async with running(election(test, redis, {"failing": failing, "other": other}).loop()):
        await until(lambda: failing.at_work)
        assert len(other.began) == 1
        assert other.at_work
        assert test.node.database_outage.reason == "no answer within 2 s"
    assert len(test.logged("database unavailable")) == 1
    assert not test.logged(RESTARTED)


async def test_a_duty_that_may_not_write_any_more_ends_alone(redis: Redis) -> None:
    test, fenced, other = TestNode(TIMING), Failing(NotLeading(), 1), Duty()
    async with running(election(test, redis, {"fenced": fenced, "other": other}).loop()):
        await until(lambda: len(fenced.ended) == 1 and other.at_work)
        (term,) = other.began
        for _ in range(3):
            until_s = term.lasts_until_s
            await until(lambda before=until_s: term.lasts_until_s > before)  # type: ignore[misc]
        assert len(fenced.began) == 1
        assert other.at_work
    assert not test.logged(RESTARTED)


async def test_a_duty_that_returns_early_is_started_again(redis: Redis) -> None:
    times = 0

    async def short(_term: Term) -> None:
        nonlocal times
        times += 1

    test, other = TestNode(TIMING), Duty()
    async with running(election(test, redis, {"short": short, "other": other}).loop()):
        await until(lambda: times >= 3)
        assert len(other.began) == 1


async def test_a_duty_that_always_fails_neither_runs_hot_nor_keeps_the_node_from_stopping(redis: Redis) -> None:
    timing = Timing(term_ms=10_000, election_every_s=0.05, retry_first_s=LONG_S, retry_cap_s=LONG_S, redis_timeout_s=10)
    test, failing = TestNode(timing), Failing(RuntimeError("always"), 10**9)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(election(test, redis, {"failing": failing}).loop())
        await test.until_logged(RESTARTED)
        until_s = failing.began[0].lasts_until_s
        await until(lambda: failing.began[0].lasts_until_s > until_s)
        test.stop.set()
    assert len(failing.began) == 1
    assert not await redis.exists(LEADER)


# --- losing the term


async def test_a_term_that_another_took_is_over_and_the_other_one_followed(redis: Redis) -> None:
    test, duty = TestNode(TIMING), Duty()
    async with running(election(test, redis, {"one": duty}).loop()):
        await until(lambda: duty.at_work)
        await redis.set(LEADER, "other-1-n0", px=60_000)
        await test.until_logged(FOLLOWS)
        assert duty.ended == duty.began
        assert not leads(test)
    assert [line["event"] for line in test.lines] == [TAKEN, LOST, FOLLOWS]
    assert test.logged(FOLLOWS)[0]["leader"] == "other-1-n0"
    # It was not its own to resign.
    assert await redis.get(LEADER) == b"other-1-n0"


async def test_after_a_flush_the_duties_start_again_with_a_new_term(redis: Redis) -> None:
    test, duty = TestNode(TIMING), Duty()
    async with running(election(test, redis, {"one": duty}).loop()):
        await until(lambda: duty.at_work)
        await redis.flushall()
        await test.until_logged(TAKEN, 2)
        await until(lambda: len(duty.began) == 2)
        assert duty.began[0] is not duty.began[1]
        assert duty.began[0].is_over
    assert "lost its data" in test.logged(LOST)[0]["reason"]


async def test_a_leader_of_a_frozen_redis_ends_its_duties_by_its_own_clock(own_redis_server: RedisServer) -> None:
    timing = Timing(term_ms=1000, election_every_s=0.05, retry_first_s=0.02, retry_cap_s=0.1, redis_timeout_s=0.3)
    test, duty = TestNode(timing), Duty()
    async with connected(own_redis_server.port) as client, running(election(test, client, {"one": duty}).loop()):
        await until(lambda: duty.at_work)
        own_redis_server.pause()
        try:
            # Nobody else can have the term while Redis does nothing, and this node gives it up nevertheless.
            await until(lambda: duty.ended == duty.began and not leads(test))
            assert time.monotonic() >= duty.ended[-1].lasts_until_s
            lost = await test.until_logged(LOST)
            assert lost["reason"] == "no extension reached Redis in time"
        finally:
            own_redis_server.resume()
        terms_before = len(duty.began)
        await until(lambda: len(duty.began) > terms_before)
        assert leads(test)
    assert not test.logged(RESIGNED)


async def test_a_leader_that_redis_refuses_ends_its_duties_by_its_own_clock(own_redis_server: RedisServer) -> None:
    timing = Timing(term_ms=1000, election_every_s=0.05, retry_first_s=0.02, retry_cap_s=0.1, redis_timeout_s=5)
    test, duty = TestNode(timing), Duty()
    async with connected(own_redis_server.port) as client, running(election(test, client, {"one": duty}).loop()):
        await until(lambda: duty.at_work)
        own_redis_server.kill()
        await until(lambda: duty.ended == duty.began)
        assert time.monotonic() >= duty.ended[-1].lasts_until_s
        await test.until_logged(LOST)
        own_redis_server.restart()
        terms_before = len(duty.began)
        await until(lambda: len(duty.began) > terms_before)
    assert len(test.logged("redis unavailable")) == 1
    assert not test.logged("redis recovered"), "that is for claims to say"


async def test_a_short_outage_within_the_term_costs_no_leadership(own_redis_server: RedisServer) -> None:
    timing = Timing(term_ms=60_000, election_every_s=0.05, retry_first_s=0.02, retry_cap_s=0.1, redis_timeout_s=0.2)
    test, duty = TestNode(timing), Duty()
    async with connected(own_redis_server.port) as client, running(election(test, client, {"one": duty}).loop()):
        await until(lambda: duty.at_work)
        own_redis_server.pause()
        try:
            await test.until_logged("redis unavailable")
        finally:
            own_redis_server.resume()
        until_s = duty.began[0].lasts_until_s
        await until(lambda: duty.began[0].lasts_until_s > until_s)
        assert len(duty.began) == 1
        assert duty.at_work
    assert len(test.logged(TAKEN)) == 1


async def test_what_a_leader_writes_after_a_freeze_of_its_own_changes_nothing(redis: Redis) -> None:
    """A process that is frozen beyond its term learns by the fence that another leads (see test_schedule_remove)."""
    test, duty = TestNode(TIMING), Duty()
    async with running(election(test, redis, {"one": duty}).loop()):
        await until(lambda: duty.at_work)
        # What the local clock says after such a freeze.
        duty.began[0].lasts_until_s = time.monotonic()
        assert duty.began[0].is_over
        await redis.set(LEADER, "other-1-n0", px=60_000)
        await test.until_logged(LOST)
        assert duty.ended == duty.began[:1]


async def test_a_resignation_that_redis_does_not_answer_is_an_outage_and_no_unexpected_error(redis: Redis) -> None:
    """The database and Redis fail at once: the leader tries to hand over to a healthy node, and gets no answer."""

    class Unanswered(Terms):
        async def resign(self, *, to_healthy: bool = False) -> bool:
            if to_healthy:
                raise Unavailable("redis", "no answer within 2 s")
            return await super().resign()

    test, duty = TestNode(replace(TIMING, resign_after_s=0.0)), Duty()
    terms = Unanswered(redis, test.node.id, test.node.timing)
    test.node.database_outage.user().failed(Unavailable("database", "no answer within 2 s"))
    async with running(Election(test.node, terms, test.node.stop.bell(), duties_of(test, {"one": duty})).loop()):
        await test.until_logged("redis unavailable")
        until_s = duty.began[0].lasts_until_s
        await until(lambda: duty.began[0].lasts_until_s > until_s)
        assert len(duty.began) == 1
        assert duty.at_work
    assert not test.logged(LOST)


# --- taking over


async def test_a_term_that_has_ended_is_taken_at_its_end_not_at_the_next_look(redis: Redis) -> None:
    timing = Timing(term_ms=60_000, election_every_s=LONG_S, redis_timeout_s=10)
    await redis.set(LEADER, "dead-1-n0", px=300)
    test, duty = TestNode(timing), Duty()
    async with running(election(test, redis, {"one": duty}).loop()):
        await until(lambda: duty.at_work)
    assert [line["event"] for line in test.lines][:2] == [FOLLOWS, TAKEN]


async def test_a_leader_that_resigns_is_replaced_at_once(redis: Redis) -> None:
    patient = Timing(term_ms=600_000, election_every_s=LONG_S, redis_timeout_s=10)
    first, second = TestNode(patient), TestNode(patient)
    duties = {first: Duty(), second: Duty()}
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for test, duty in duties.items():
            vacant = test.node.stop.bell()
            group.create_task(signals_loop(test.node, redis, vacant))
            group.create_task(election(test, redis, {"one": duty}, vacant).loop())
            await until(lambda some=test: bool(some.lines))  # type: ignore[misc]
        assert duties[first].at_work
        assert not duties[second].began
        await until(lambda: _listeners(redis, 2))
        first.stop.set()
        await until(lambda: duties[second].at_work)
        assert not duties[first].at_work
        second.stop.set()
    assert [line["event"] for line in second.lines] == [FOLLOWS, TAKEN, RESIGNED]


async def _listeners(redis: Redis, count: int) -> bool:
    return bool((await redis.pubsub_numsub("peekaping:producer:signals"))[0][1] == count)


async def test_the_same_other_leader_is_logged_once(redis: Redis) -> None:
    await redis.set(LEADER, "one-1-n0", px=60_000)
    test = TestNode(TIMING)
    async with running(election(test, redis, {}).loop()):
        await test.until_logged(FOLLOWS)
        # A read of this node leaves a Go node's mark each time, which the test deletes again.
        await redis.set(LEADER, "go-4711", px=60_000)
        await test.until_logged(FOLLOWS, 2)
        for _ in range(3):
            await redis.delete(GO_SEEN)
            await until(lambda: _exists(redis, GO_SEEN))
    assert [line["leader"] for line in test.logged(FOLLOWS)] == ["one-1-n0", "go-4711"]


async def _exists(redis: Redis, key: str) -> bool:
    return bool(await redis.exists(key))


async def test_of_many_nodes_one_leads(redis: Redis) -> None:
    duties = {TestNode(TIMING): Duty() for _ in range(5)}
    async with asyncio.TaskGroup() as group:
        for test, duty in duties.items():
            group.create_task(election(test, redis, {"one": duty}).loop())
        for left in range(5, 0, -1):
            await until(lambda: any(duty.at_work for duty in duties.values()))
            (leader,) = (test for test, duty in duties.items() if duty.at_work)
            assert await redis.get(LEADER) == leader.node.id.encode()
            await until(lambda only=leader: all(t.lines for t in duties if t is not only))  # type: ignore[misc]
            leader.stop.set()
            await until(lambda only=leader: not duties[only].at_work)  # type: ignore[misc]
            assert len([test for test in duties if not test.stop]) == left - 1
    assert [len(duty.began) for duty in duties.values()] == [1] * 5


async def test_an_unavailable_redis_at_the_start_is_waited_for(own_redis_server: RedisServer) -> None:
    timing = Timing(term_ms=10_000, election_every_s=0.05, retry_first_s=0.01, retry_cap_s=0.05, redis_timeout_s=5)
    test, duty = TestNode(timing), Duty()
    own_redis_server.kill()
    async with connected(own_redis_server.port) as client, running(election(test, client, {"one": duty}).loop()):
        await test.until_logged("redis unavailable")
        own_redis_server.restart()
        await until(lambda: duty.at_work)
    assert len(test.logged("redis unavailable")) == 1
    assert not test.logged("redis recovered"), "that is for claims to say"


async def test_a_resignation_that_does_not_reach_redis_is_logged(own_redis_server: RedisServer) -> None:
    timing = Timing(term_ms=60_000, election_every_s=LONG_S, redis_timeout_s=0.3)
    test, duty = TestNode(timing), Duty()
    async with connected(own_redis_server.port) as client, asyncio.TaskGroup() as group:
        group.create_task(election(test, client, {"one": duty}).loop())
        await until(lambda: duty.at_work)
        own_redis_server.pause()
        test.stop.set()
    assert not duty.at_work
    assert [line["event"] for line in test.lines] == [TAKEN, "resignation failed"]
