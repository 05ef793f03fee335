"""Each slot leads to one task, whatever happens between claim and settle (invariant 2)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.payload import stale_task
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.errors import Unavailable
from peekaping_producer.model.cadence import cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.observe.outcomes import PLACED, Outcome
from peekaping_producer.redisdb.keys import CLAIMS, DUE, GO_SEEN, LEADER, LEASE, PAUSE, SIGNALS, STEP
from peekaping_producer.schedule.orders import Claim, Claimed, Drop, Enqueue, Entry, Order, Release
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.timing import Timing
from support.asynq_states import RedisState, fresh_message, put_active, put_in_set, put_pending, redis_state, score
from support.leader_key import LEADER_ID, lead
from support.losing_proxy import LosingProxy, Loss, losing_proxy
from support.redis_time import redis_now_ms, until_ms
from support.waiting import until

MONITOR = MonitorId("11111111-1111-4111-8111-111111111111")
LEASE_MS = 60


def monitors(count: int) -> list[MonitorId]:
    return [MonitorId(str(UUID(int=n + 1))) for n in range(count)]


def enqueue(id_: MonitorId, which: str = "") -> Enqueue:
    return Enqueue(id_, cadence(id_, 60), fresh_message(id_) + which.encode())


async def make_due(redis: Redis, *ids: MonitorId) -> None:
    await redis.zadd(DUE, dict.fromkeys(ids, 1))


async def everything(redis: Redis) -> dict[bytes | str, bytes | None]:
    """Return all of Redis, to see whether anything changed."""
    return {key: await redis.dump(key) for key in await redis.keys("*")}


async def assert_one_task(redis: Redis, id_: MonitorId = MONITOR) -> None:
    now = await redis_state(redis, id_)
    assert now.places == ["pending"]
    assert now.task[b"msg"] == fresh_message(id_)
    assert now.lease_ms is None
    assert now.due_ms is not None
    assert now.due_ms > await redis_now_ms(redis)


async def test_a_claim_that_ended_but_is_still_there_can_be_settled(redis: Redis) -> None:
    schedule = Schedule(redis, Timing(lease_ms=LEASE_MS))
    await make_due(redis, MONITOR)
    claim = await schedule.claim(1)
    await until_ms(redis, float(claim.token))
    assert (await schedule.settle(claim, [enqueue(MONITOR)])).outcomes == (Outcome.ENQUEUED,)
    await assert_one_task(redis)
    assert await schedule.reclaim() == 0


async def test_invariant_2_a_settle_after_a_reclaim_is_lost_and_changes_nothing(redis: Redis) -> None:
    schedule = Schedule(redis, Timing(lease_ms=LEASE_MS))
    await make_due(redis, MONITOR)
    claim = await schedule.claim(1)
    await until_ms(redis, float(claim.token))
    assert await schedule.reclaim() == 1
    before = await everything(redis)
    for order in (enqueue(MONITOR), Release(MONITOR, 1), Drop(MONITOR, stale_task(MONITOR))):
        assert (await schedule.settle(claim, [order])).outcomes == (Outcome.LOST,)
    assert await everything(redis) == before


async def test_a_claim_that_another_node_took_over_is_lost_and_the_other_one_counts(redis: Redis) -> None:
    schedule = Schedule(redis, Timing(lease_ms=LEASE_MS))
    await make_due(redis, MONITOR)
    paused = await schedule.claim(1)
    await until_ms(redis, float(paused.token))
    assert await schedule.reclaim() == 1
    other = await Schedule(redis, Timing()).claim(1)
    assert [one.id for one in other.claimed] == [MONITOR]

    assert (await schedule.settle(paused, [enqueue(MONITOR, " paused")])).outcomes == (Outcome.LOST,)
    assert (await redis_state(redis, MONITOR)).task == {}
    assert (await schedule.settle(other, [enqueue(MONITOR)])).outcomes == (Outcome.ENQUEUED,)
    assert (await schedule.settle(paused, [enqueue(MONITOR, " paused")])).outcomes == (Outcome.LOST,)
    await assert_one_task(redis)


async def test_given_back_and_claimed_again_in_one_millisecond(redis: Redis) -> None:
    schedule = Schedule(redis, Timing())
    await schedule.claim(1)  # Redis knows the script from here on.
    async with redis.pipeline(transaction=False) as pipe:
        for _ in range(500):
            pipe.zadd(DUE, {MONITOR: 1})
            pipe.evalsha(schedule._claim.sha, 7, DUE, LEASE, CLAIMS, GO_SEEN, LEADER, STEP, PAUSE, 1, 5000, "")
        replies = (await pipe.execute())[1::2]
    claims = [Claim(int(reply[0]), reply[1].decode(), None, False, (Claimed(MONITOR, 1),), 0) for reply in replies]
    assert len({claim.now_ms for claim in claims}) < len(claims), "none in one millisecond"

    assert len({float(claim.token) for claim in claims}) == len(claims)
    *earlier, last = claims
    same_ms = [claim for claim in earlier if claim.now_ms == last.now_ms] or earlier[-1:]
    for claim in same_ms:
        assert (await schedule.settle(claim, [enqueue(MONITOR, " earlier")])).outcomes == (Outcome.LOST,)
    assert (await schedule.settle(last, [enqueue(MONITOR)])).outcomes == (Outcome.ENQUEUED,)
    await assert_one_task(redis)


async def test_the_token_is_the_lease_to_the_last_bit(redis: Redis) -> None:
    schedule = Schedule(redis, Timing())
    for _ in range(50):
        await make_due(redis, MONITOR)
        claim = await schedule.claim(1)
        lease_ms = await score(redis, LEASE, MONITOR)
        assert lease_ms == float(claim.token)
        assert int(lease_ms) == claim.now_ms + 5000


async def test_the_counter_of_claims_may_be_huge_or_gone(redis: Redis) -> None:
    schedule = Schedule(redis, Timing())
    await redis.set(CLAIMS, 2**53 - 2)
    for _ in range(3):
        await make_due(redis, MONITOR)
        claim = await schedule.claim(1)
        assert 0 <= float(claim.token) - claim.now_ms - 5000 < 1
    await redis.delete(CLAIMS)
    assert (await schedule.settle(claim, [enqueue(MONITOR)])).outcomes == (Outcome.ENQUEUED,)


async def test_a_second_settle_of_the_same_claim_is_lost(redis: Redis) -> None:
    schedule = Schedule(redis, Timing())
    await make_due(redis, MONITOR)
    claim = await schedule.claim(1)
    assert (await schedule.settle(claim, [enqueue(MONITOR)])).outcomes == (Outcome.ENQUEUED,)
    before = await everything(redis)
    assert (await schedule.settle(claim, [enqueue(MONITOR, " again")])).outcomes == (Outcome.LOST,)
    assert await everything(redis) == before


async def test_one_monitor_twice_in_a_settle_gets_one_task(redis: Redis) -> None:
    schedule = Schedule(redis, Timing())
    await make_due(redis, MONITOR)
    claim = await schedule.claim(1)
    settlement = await schedule.settle(claim, [enqueue(MONITOR), enqueue(MONITOR, " again")])
    assert settlement.outcomes == (Outcome.ENQUEUED, Outcome.LOST)
    await assert_one_task(redis)


async def test_a_monitor_removed_between_claim_and_settle_does_not_come_back(redis: Redis) -> None:
    schedule = Schedule(redis, Timing())
    deleted, kept = monitors(2)
    await make_due(redis, deleted, kept)
    await put_pending(redis, deleted)
    claim = await schedule.claim(2)
    await lead(redis)
    assert await schedule.remove(LEADER_ID, [Drop(deleted, stale_task(deleted))]) == 1
    settlement = await schedule.settle(claim, [enqueue(deleted), enqueue(kept)])
    assert settlement.outcomes == (Outcome.LOST, Outcome.ENQUEUED)
    assert await redis_state(redis, deleted) == RedisState({}, [], None, None)
    await assert_one_task(redis, kept)


async def test_a_monitor_settled_by_a_go_node_is_lost(redis: Redis) -> None:
    schedule = Schedule(redis, Timing())
    await make_due(redis, MONITOR)
    claim = await schedule.claim(1)
    # A Go node settles without checking whose claim it is.
    await redis.zadd(DUE, {MONITOR: claim.now_ms + 60_000})
    await redis.zrem(LEASE, MONITOR)
    before = await everything(redis)
    assert (await schedule.settle(claim, [enqueue(MONITOR)])).outcomes == (Outcome.LOST,)
    assert await everything(redis) == before


@asynccontextmanager
async def behind(proxy: LosingProxy, timing: Timing) -> AsyncIterator[Schedule]:
    """Give a schedule that reaches Redis through the proxy."""
    async with Redis(host=HOST, port=proxy.port, retry=Retry(NoBackoff(), 0), client_name="proxied") as client:
        yield Schedule(client, timing)


async def load_scripts(redis: Redis, timing: Timing) -> Schedule:
    """Let Redis know the scripts, so that each call through a proxy is one EVALSHA; return a schedule without one."""
    direct = Schedule(redis, replace(timing, redis_timeout_s=10))
    await direct.settle(await direct.claim(1), [])
    return direct


QUICK = Timing(redis_timeout_s=0.7, retry_first_s=0.01)


@pytest.mark.parametrize("loss", ["reply", "connection"])
async def test_a_settle_whose_reply_is_lost_is_asked_for_again_and_unknown(
    redis: Redis, redis_server: RedisServer, loss: Loss
) -> None:
    await load_scripts(redis, QUICK)
    await make_due(redis, MONITOR)
    async with losing_proxy(redis_server.port) as proxy, behind(proxy, QUICK) as schedule:
        claim = await schedule.claim(1)
        proxy.lose(loss)
        settlement = await schedule.settle(claim, [enqueue(MONITOR)])
        assert proxy.scripts_sent == 3
    assert settlement.outcomes == (Outcome.UNKNOWN,)
    await assert_one_task(redis)


async def test_a_settle_that_never_arrived_is_done_by_the_second_try(redis: Redis, redis_server: RedisServer) -> None:
    await load_scripts(redis, QUICK)
    await make_due(redis, MONITOR)
    async with losing_proxy(redis_server.port) as proxy, behind(proxy, QUICK) as schedule:
        claim = await schedule.claim(1)
        proxy.lose("request")
        settlement = await schedule.settle(claim, [enqueue(MONITOR)])
    assert settlement.outcomes == (Outcome.ENQUEUED,)
    await assert_one_task(redis)


async def test_a_settle_is_given_up_when_its_lease_has_ended(redis: Redis, redis_server: RedisServer) -> None:
    timing = Timing(lease_ms=100, redis_timeout_s=0.05, retry_first_s=0.01)
    direct = await load_scripts(redis, timing)
    await make_due(redis, MONITOR)
    claim = await direct.claim(1)
    async with losing_proxy(redis_server.port) as proxy, behind(proxy, timing) as schedule:
        proxy.lose("request", times=1000)
        with pytest.raises(Unavailable, match="no answer within"):
            await schedule.settle(claim, [enqueue(MONITOR)])
        assert proxy.scripts_sent <= 3
    await until_ms(redis, float(claim.token))
    assert await direct.reclaim() == 1
    again = await direct.claim(1)
    assert (await direct.settle(again, [enqueue(MONITOR)])).outcomes == (Outcome.ENQUEUED,)
    await assert_one_task(redis)


@pytest.mark.parametrize("loss", ["reply", "connection"])
async def test_a_claim_whose_reply_is_lost_is_not_sent_again_and_comes_back_with_its_lease(
    redis: Redis, redis_server: RedisServer, loss: Loss
) -> None:
    timing = Timing(lease_ms=300, redis_timeout_s=0.7)
    direct = await load_scripts(redis, timing)
    ids = monitors(3)
    await make_due(redis, *ids)
    async with losing_proxy(redis_server.port) as proxy, behind(proxy, timing) as schedule:
        proxy.lose(loss)
        with pytest.raises(Unavailable) as refused:
            await schedule.claim(2)
        assert proxy.scripts_sent == 1
    assert refused.value.system == "redis"
    assert await redis.zrange(LEASE, 0, -1) == [id_.encode() for id_ in ids[:2]]
    await until_ms(redis, await score(redis, LEASE, ids[0]))
    await until_ms(redis, await score(redis, LEASE, ids[1]))
    assert await direct.reclaim() == 2
    again = await direct.claim(10)
    assert {one.id for one in again.claimed} == set(ids)


async def test_an_error_at_one_monitor_leaves_the_others_unharmed(redis: Redis) -> None:
    schedule = Schedule(redis, Timing(lease_ms=LEASE_MS))
    first, orphan, archived, last = monitors(4)
    await make_due(redis, first, orphan, archived, last)
    await put_active(redis, orphan, lease_s=None)
    await put_in_set(redis, archived, "archived")
    await redis.set(keys.WORKERS, "no sorted set")
    before = await redis_state(redis, orphan)

    claim = await schedule.claim(4)
    settlement = await schedule.settle(claim, [enqueue(one.id) for one in claim.claimed])

    outcomes = dict(zip((one.id for one in claim.claimed), settlement.outcomes, strict=True))
    assert outcomes == {
        first: Outcome.ENQUEUED,
        orphan: Outcome.FAILED,
        archived: Outcome.HEALED_ARCHIVED,
        last: Outcome.ENQUEUED,
    }
    assert settlement.failures.keys() == {orphan}
    assert "WRONGTYPE" in settlement.failures[orphan]
    for id_ in (first, archived, last):
        await assert_one_task(redis, id_)
    now = await redis_state(redis, orphan)
    assert (now.task, now.places, now.due_ms) == (before.task, before.places, None)
    assert now.lease_ms == float(claim.token)

    await redis.delete(keys.WORKERS)
    await until_ms(redis, float(claim.token))
    assert await schedule.reclaim() == 1
    again = await schedule.claim(4)
    assert (await schedule.settle(again, [enqueue(orphan)])).outcomes == (Outcome.HEALED_ORPHANED,)
    await assert_one_task(redis, orphan)


async def test_an_order_that_makes_no_sense_fails_alone(redis: Redis) -> None:
    schedule = Schedule(redis, Timing())
    first, broken, last = monitors(3)
    await make_due(redis, first, broken, last)
    claim = await schedule.claim(3)
    await schedule.settle(claim, [])
    args: list[str | bytes | int] = [1000, "healthcheck:", claim.token, "healthcheck", keys.GROUP, 1000, SIGNALS]
    for id_ in (first, broken, last):
        args += ["enqueue", id_, "none" if id_ == broken else 60_000, 7, fresh_message(id_)]
    fixed = (
        *(DUE, LEASE, keys.QUEUES, keys.PENDING, keys.ACTIVE, keys.LEASE, keys.SCHEDULED, keys.RETRY),
        *(keys.ARCHIVED, keys.COMPLETED, keys.WORKERS),
    )
    tasks = [f"{keys.TASK}healthcheck:{id_}" for id_ in (first, broken, last)]
    _, *reply = await redis.evalsha(schedule._settle.sha, len(fixed) + 3, *fixed, *tasks, *args)
    assert (reply[0], reply[2]) == (b"enqueued", b"enqueued")
    assert reply[1].startswith(b"failed:")
    await assert_one_task(redis, first)
    await assert_one_task(redis, last)
    now = await redis_state(redis, broken)
    assert (now.places, now.lease_ms) == ([], float(claim.token))


async def test_a_pending_list_of_another_type_fails_the_batch_and_loses_nobody(redis: Redis) -> None:
    schedule = Schedule(redis, Timing(lease_ms=LEASE_MS))
    ids = monitors(3)
    await make_due(redis, *ids)
    await redis.set(keys.PENDING, "no list")
    claim = await schedule.claim(3)
    settlement = await schedule.settle(claim, [enqueue(id_) for id_ in ids])
    assert settlement.outcomes == (Outcome.FAILED,) * 3
    assert settlement.failures.keys() == set(ids)

    await redis.delete(keys.PENDING)
    await until_ms(redis, float(claim.token))
    assert await schedule.reclaim() == 3
    again = await schedule.claim(3)
    await schedule.settle(again, [enqueue(id_) for id_ in ids])
    for id_ in ids:
        await assert_one_task(redis, id_)


async def test_a_full_redis_fails_every_step_and_loses_nobody(own_redis_server: RedisServer) -> None:
    timing = Timing(lease_ms=400, retry_first_s=0.01)
    fresh, archived, waiting = monitors(3)
    async with Redis(host=HOST, port=own_redis_server.port, retry=Retry(NoBackoff(), 0)) as redis:
        schedule = Schedule(redis, timing)
        await lead(redis)
        await load_scripts(redis, timing)
        await schedule.reclaim()
        await schedule.schedule(LEADER_ID, [])
        await make_due(redis, fresh, archived, waiting)
        await put_in_set(redis, archived, "archived")
        before = await everything(redis)

        await fill(redis)
        with pytest.raises(Unavailable, match=r"(?i)maxmemory|OOM"):
            await schedule.claim(10)
        with pytest.raises(Unavailable, match=r"(?i)maxmemory|OOM"):
            await schedule.schedule(LEADER_ID, [Entry(MONITOR, cadence(MONITOR, 60))])
        assert await everything(redis) == before

        await empty(redis)
        claim = await schedule.claim(2)
        assert {one.id for one in claim.claimed} == {fresh, archived}
        await fill(redis)
        with pytest.raises(Unavailable, match="raise it, or free memory"):
            await schedule.settle(claim, [enqueue(fresh), Release(archived, 5)])
        await until_ms(redis, float(claim.token))
        with pytest.raises(Unavailable, match=r"(?i)maxmemory|OOM"):
            await schedule.reclaim()
        assert await redis.zcard(LEASE) == 2

        await empty(redis)
        assert await schedule.reclaim() == 2
        again = await schedule.claim(10)
        await schedule.settle(again, [enqueue(one.id) for one in again.claimed])
        for id_ in (fresh, archived, waiting):
            await assert_one_task(redis, id_)


async def test_what_redis_refuses_in_a_settle_is_tried_again_and_the_rest_keeps_its_outcome(redis: Redis) -> None:
    schedule = Schedule(redis, Timing(retry_first_s=0.01))
    first, second = monitors(2)
    await make_due(redis, first, second)
    claim = await schedule.claim(10)
    await redis.set(keys.PENDING, "no list")
    errors: list[Unavailable] = []
    async with asyncio.TaskGroup() as group:
        orders: list[Order] = [enqueue(first), Release(second, 60_000)]
        settling = group.create_task(schedule.settle(claim, orders, errors.append))
        await until(lambda: len(errors) >= 2)
        await redis.delete(keys.PENDING)
    settlement = settling.result()
    assert {error.code for error in errors} == {"WRONGTYPE"}
    assert settlement.outcomes[0] in PLACED
    assert settlement.outcomes[1] is Outcome.RELEASED
    assert not settlement.failures
    await assert_one_task(redis, first)


async def fill(redis: Redis) -> None:
    """Let Redis refuse whatever needs memory."""
    await redis.config_set("maxmemory-policy", "noeviction")
    await redis.config_set("maxmemory", "1")


async def empty(redis: Redis) -> None:
    """Let it take writes again."""
    await redis.config_set("maxmemory", "0")
