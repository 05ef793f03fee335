"""A pause: while its key is there nothing is claimed, it ends by itself, and what it delayed is counted as such."""

import time

import pytest
from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.dispatch.missed import MissedChecks
from peekaping_producer.model.cadence import cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.node.pause_watch import PauseWatch
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.redisdb.keys import DUE, LEASE, PAUSE
from peekaping_producer.schedule.orders import Claim, Claimed, Enqueue, Settlement
from peekaping_producer.schedule.pause import Pause, Pauses, length_ms, reason_from
from peekaping_producer.schedule.redis_clock import Step
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.schedule.view import ScheduleView
from peekaping_producer.timing import Timing
from support.asynq_states import fresh_message
from support.databases import SqliteDatabase, monitor_row
from support.log_capture import CapturedLog
from support.nodes import TestNode
from support.producer import producing
from support.redis_time import redis_now_ms, until_ms
from support.waiting import until

ID = MonitorId("11111111-1111-4111-8111-111111111111")
TIMEOUT_S = 10
TIMING = Timing(redis_timeout_s=TIMEOUT_S)
HOUR_MS = 3_600_000
REASON, BY = "a new database", "anna@host-1"


@pytest.fixture
def pauses(redis: Redis) -> Pauses:
    return Pauses(redis, TIMEOUT_S)


async def current(redis: Redis) -> Pause | None:
    return (await ScheduleView(redis, TIMEOUT_S).place_of(ID)).pause


# --- the key


async def test_a_pause_is_a_key_that_expires_by_redis_clock(redis: Redis, pauses: Pauses) -> None:
    now_ms = await redis_now_ms(redis)
    pause, before = await pauses.begin(HOUR_MS, REASON, BY)
    assert before is None
    assert (pause.until_ms - pause.since_ms, pause.reason, pause.by) == (HOUR_MS, REASON, BY)
    assert 0 <= pause.since_ms - now_ms < 10_000
    assert await current(redis) == pause
    assert abs(await redis.pttl(PAUSE) - (pause.until_ms - await redis_now_ms(redis))) < 1_000
    assert await pauses.end() == pause
    assert await current(redis) is None
    assert await pauses.end() is None


async def test_another_pause_replaces_the_end_and_counts_as_one_with_it(redis: Redis, pauses: Pauses) -> None:
    first, _ = await pauses.begin(HOUR_MS, REASON, BY)
    await until_ms(redis, first.since_ms)
    second, before = await pauses.begin(60_000, "shorter", "berta@host-2")
    assert before == first
    assert (second.since_ms, second.reason, second.by) == (first.since_ms, "shorter", "berta@host-2")
    assert second.until_ms < first.until_ms
    assert 0 < await redis.pttl(PAUSE) <= 60_000


async def test_a_pause_ends_at_its_time_even_if_its_key_does_not_expire(redis: Redis, pauses: Pauses) -> None:
    pause, _ = await pauses.begin(50, REASON, BY)
    await redis.hset(PAUSE, mapping={"until_ms": pause.until_ms, "since_ms": pause.since_ms})
    await redis.persist(PAUSE)
    await until_ms(redis, pause.until_ms)
    assert await redis.exists(PAUSE)
    await redis.zadd(DUE, {ID: 1_000})
    assert await current(redis) is None
    assert [one.id for one in (await Schedule(redis, TIMING).claim(1)).claimed] == [ID]


@pytest.mark.parametrize("until", ["", "soon", "inf", "-1", "1e99"])
async def test_a_damaged_time_is_no_pause(redis: Redis, until: str) -> None:
    await redis.hset(PAUSE, mapping={"until_ms": until, "reason": b"\xff"})
    await redis.zadd(DUE, {ID: 1_000})
    assert await current(redis) is None
    assert [one.id for one in (await Schedule(redis, TIMING).claim(1)).claimed] == [ID]


async def test_damaged_texts_of_a_pause_do_no_harm(redis: Redis) -> None:
    until_ms_ = await redis_now_ms(redis) + HOUR_MS
    await redis.hset(PAUSE, mapping={"until_ms": until_ms_, "since_ms": "x", "reason": b"\xff"})
    claim = await Schedule(redis, TIMING).claim(1)
    assert claim.pause == await current(redis) == Pause(0, until_ms_, "�", "")


async def test_a_step_back_of_the_clock_does_not_make_a_pause_longer(redis: Redis, pauses: Pauses) -> None:
    """Its times are an hour ahead, as after a step back by an hour."""
    pause, _ = await pauses.begin(60_000, REASON, BY)
    await redis.hset(PAUSE, mapping={"since_ms": pause.since_ms + HOUR_MS, "until_ms": pause.until_ms + HOUR_MS})
    await redis.pexpire(PAUSE, 60_000 + HOUR_MS)
    assert await Schedule(redis, TIMING).note_step(Step(await redis_now_ms(redis), -HOUR_MS))
    after = await current(redis)
    assert after
    assert after.until_ms - after.since_ms == 60_000
    assert after.until_ms <= await redis_now_ms(redis) + 60_000
    assert 0 < await redis.pttl(PAUSE) <= 60_000


# --- claims


async def test_a_claim_takes_nothing_and_says_until_when(redis: Redis, pauses: Pauses) -> None:
    await redis.zadd(DUE, {ID: 1_000})
    schedule = Schedule(redis, TIMING)
    pause, _ = await pauses.begin(HOUR_MS, REASON, BY)
    for claim in (await schedule.claim(10), await schedule.claim_these([Claimed(ID, 1_000)])):
        assert (claim.claimed, claim.token, claim.pause) == ((), "", pause)
    peeked = await schedule.peek("me", None, 10)
    assert (peeked.due, peeked.pause) == ((), pause)
    assert await redis.zcard(LEASE) == 0
    await pauses.end()
    claim = await schedule.claim(10)
    assert ([one.id for one in claim.claimed], claim.pause) == ([ID], None)


async def test_what_is_claimed_already_is_settled(redis: Redis, pauses: Pauses) -> None:
    await redis.zadd(DUE, {ID: 1_000})
    schedule = Schedule(redis, TIMING)
    claim = await schedule.claim(10)
    await pauses.begin(HOUR_MS, REASON, BY)
    settlement = await schedule.settle(claim, [Enqueue(ID, cadence(ID, 60), fresh_message(ID))])
    assert settlement.outcomes == (Outcome.ENQUEUED,)


async def test_a_claim_costs_no_more_than_one_command(redis: Redis, pauses: Pauses) -> None:
    await Schedule(redis, TIMING).claim(1)
    before = (await redis.info("commandstats"))["cmdstat_hmget"]["calls"]
    await Schedule(redis, TIMING).claim(1)
    after = (await redis.info("commandstats"))["cmdstat_hmget"]["calls"]
    assert after - before == 2  # the other one is the step's


# --- missed checks and lateness


def settled(node: TestNode, late_s: float, *, drained_ms: int = 0) -> dict[Outcome, int]:
    """Return what was missed by a monitor of a one-minute interval that is this late."""
    now_ms, grid = 1_790_000_000_000, cadence(ID, 60)
    claimed = Claimed(ID, now_ms - late_s * 1000)
    claim = Claim(now_ms, "", None, False, (claimed,), time.monotonic(), drained_ms=drained_ms)
    settlement = Settlement(now_ms, (Outcome.ENQUEUED,), {})
    missed = MissedChecks(node.node, node.node.started_s)
    return dict(missed.in_batch(claim, [Enqueue(ID, grid, b"")], settlement, claim.lateness_ms(now_ms)))


def after_a_pause(node: TestNode, for_s: float) -> None:
    """Let a node find out that checks were paused until now."""
    node.node.pause.update(Pause(0, int(for_s * 1000), REASON, BY), int(for_s * 1000) - 10)
    node.node.pause.update(None, int(for_s * 1000))


@pytest.mark.parametrize(("paused_s", "outcome"), [(600, Outcome.MISSED_PAUSED), (100, Outcome.MISSED_OVERLOAD)])
def test_a_pause_is_the_reason_if_it_was_most_of_the_delay(paused_s: float, outcome: Outcome) -> None:
    node = TestNode()
    after_a_pause(node, paused_s)
    assert set(settled(node, 600)) == {outcome}


async def test_a_claim_during_a_pause_leaves_all_that_is_overdue(redis: Redis, pauses: Pauses) -> None:
    """So nothing that is due before it can be taken for an expired claim."""
    schedule = Schedule(redis, TIMING)
    await pauses.begin(HOUR_MS, REASON, BY)
    await redis.zadd(DUE, {ID: 1_000})
    await schedule.claim(10)
    await pauses.end()
    assert (await schedule.claim(10)).drained_ms == 0


def test_lateness_counts_from_the_end_of_the_pause() -> None:
    now_s = 1_000.0
    log = CapturedLog()
    watch = PauseWatch(log.log, lambda: now_s)
    assert [*watch.lateness_ms([5.0, 50_000.0])] == [5.0, 50_000.0]
    watch.update(Pause(0, 60_000, REASON, BY), 0)
    now_s += 30
    watch.update(None, 30_000)
    now_s += 2
    assert [*watch.lateness_ms([5.0, 50_000.0])] == [5.0, 2_000.0]


# --- what the log says


def test_the_log_says_when_a_pause_starts_goes_on_and_ends() -> None:
    now_s = 1_000.0
    log = CapturedLog()
    watch = PauseWatch(log.log, lambda: now_s)
    pause = Pause(1_790_000_000_000, 1_790_000_600_000, REASON, BY)
    watch.update(None, pause.since_ms)
    watch.update(pause, pause.since_ms)
    watch.update(pause, pause.since_ms + 1_000)
    now_s += 299
    watch.remind(300)
    assert [line["event"] for line in log.lines] == ["checks paused"]
    now_s += 1
    watch.remind(300)
    watch.remind(300)
    going_on = watch.now
    now_s += 300
    watch.remind(300)
    assert (going_on, watch.now) == (pause, None)
    watch.update(None, pause.until_ms)
    paused, still, resumed = log.lines
    until = "2026-09-21T14:23:20Z"
    assert (paused["until"], paused["reason"], paused["by"], paused["level"]) == (until, REASON, BY, "warning")
    assert (still["event"], still["until"], still["paused_s"]) == ("checks still paused", until, 300.0)
    assert (resumed["event"], resumed["paused_s"], resumed["early"]) == ("checks resumed", 600.0, False)


def test_a_pause_that_a_node_finds_when_it_starts_began_earlier() -> None:
    now_s = 1_000.0
    watch = PauseWatch(CapturedLog().log, lambda: now_s)
    watch.update(Pause(0, 600_000, REASON, BY), 500_000)
    assert watch.seconds_since(0) == 500
    now_s += 200
    # Over, though no claim has found that out.
    assert watch.seconds_since(0) == 600
    watch.update(None, 700_000)
    assert watch.seconds_since(0) == 600
    assert watch.seconds_since(1_050) == 50


# --- a whole producer


async def test_a_producer_waits_for_the_end_and_then_makes_each_check_once(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, pauses: Pauses
) -> None:
    await empty_sqlite_db.insert("monitors", monitor_row(id=ID, interval=1))
    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=redis_server.port)
    timing = Timing(sweep_every_s=3600, changes_every_s=3600, remind_every_s=0.4)
    async with producing(settings, timing) as producer:
        await producer.until_logged("batches settled")
        pause, _ = await pauses.begin(4_000, REASON, BY)
        await producer.until_logged("checks paused")
        await producer.until_logged("checks still paused")
        settled = len(producer.logged("batches settled"))
        resumed = await producer.until_logged("checks resumed")
        assert await redis_now_ms(redis) - pause.until_ms < 2_500
        await producer.until_logged("batches settled", settled + 1)
        producer.stop.set()
        await until(lambda: producer.logged("producer stopped"), "it has stopped")
    assert (resumed["early"], abs(resumed["paused_s"] - 4) < 0.5) == (False, True)
    (summary,) = producer.logged("summary")
    assert summary["checks"]["missed_paused"] >= 1
    # It was due within the first second of the pause.
    assert summary["lateness_p99_ms"] < 2_500


async def test_a_node_that_waits_for_a_long_time_is_woken(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, pauses: Pauses
) -> None:
    """Neither the beginning nor the end waits for the next claim, which would come in an hour."""
    await empty_sqlite_db.insert("monitors", monitor_row(id=ID, interval=86_400))
    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=redis_server.port)
    async with producing(settings, Timing(sweep_every_s=3600, changes_every_s=3600, claim_wait_s=3600)) as producer:
        await producer.until_logged("sweep finished")
        await pauses.begin(HOUR_MS, REASON, BY)
        await producer.until_logged("checks paused")
        await pauses.end()
        assert (await producer.until_logged("checks resumed"))["early"]


# --- what people write


@pytest.mark.parametrize(
    ("text", "ms"), [("90s", 90_000), ("10m", 600_000), (" 2h ", 7_200_000), ("24h", 86_400_000), ("1s", 1_000)]
)
def test_lengths(text: str, ms: int) -> None:
    assert length_ms(text) == ms


@pytest.mark.parametrize("text", ["", "10", "0s", "25h", "1d", "1.5h", "-1m", "86401s", "1h30m", "٣m", "9" * 99])
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid length: write for example 90s, 10m or 2h, at most 24h"):
        length_ms(text)


def test_reasons() -> None:
    assert reason_from("  a new\n database\x1b[0m ") == "a new database [0m"
    for text in ("", " \n", "x" * 201):
        with pytest.raises(ValueError, match="must have 1 to 200 characters"):
            reason_from(text)
