"""The leader key: one term at a time, fenced by Redis, and trusted by the leader no longer than it can last.

Invariant 9 (fence): what a leader writes counts only while the key holds its id. These tests are about the key itself.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import pytest
from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.errors import Unavailable
from peekaping_producer.leader.term import Extension, Other, Term, Terms
from peekaping_producer.node.node import make_node
from peekaping_producer.redisdb.keys import EPOCH, GO_SEEN, HEALTHY, LEADER, SIGNALS
from peekaping_producer.schedule.store import LONGEST_TERM_MS
from peekaping_producer.timing import Timing
from support.losing_proxy import LosingProxy, Loss, losing_proxy
from support.node_ids import GO_NODES, OTHER_NODES
from support.nodes import TestNode, connected

T = TypeVar("T")
ONE, TWO = "host-11-na0", "host-12-nb1"
TERM_MS = 60_000
TIMING = Timing(term_ms=TERM_MS, redis_timeout_s=10)
QUICK = Timing(term_ms=TERM_MS, redis_timeout_s=0.7)


@pytest.fixture
def terms(redis: Redis) -> Terms:
    return Terms(redis, ONE, TIMING)


@asynccontextmanager
async def behind(proxy: LosingProxy, direct: Redis) -> AsyncIterator[Terms]:
    """Act through the proxy, with scripts that Redis knows already."""
    warm = Terms(direct, ONE, TIMING)
    await extended(warm, await taken(warm))
    await warm.resign()
    async with connected(proxy.port) as client:
        yield Terms(client, ONE, QUICK)


async def taken(terms: Terms) -> Term:
    term = await terms.take()
    assert isinstance(term, Term)
    return term


async def extended(terms: Terms, term: Term) -> None:
    assert isinstance(await terms.extend(term), Extension)


async def holder(redis: Redis) -> tuple[bytes | str | None, int]:
    """Return who holds the key, and for how many ms more."""
    return await redis.get(LEADER), await redis.pttl(LEADER)


# --- taking


async def test_a_free_term_is_taken(redis: Redis, terms: Terms) -> None:
    term = await taken(terms)
    assert (term.node_id, term.is_over) == (ONE, False)
    id_, left_ms = await holder(redis)
    assert id_ == ONE.encode()
    assert 0 < left_ms <= TERM_MS


async def test_a_second_node_learns_who_leads_and_for_how_long(redis: Redis, terms: Terms) -> None:
    await taken(terms)
    before_s = await redis.pttl(LEADER) / 1000
    other = await Terms(redis, TWO, TIMING).take()
    after_s = await redis.pttl(LEADER) / 1000
    assert isinstance(other, Other)
    assert other.node_id == ONE
    assert after_s <= other.left_s <= before_s
    assert (await holder(redis))[0] == ONE.encode()


async def test_another_node_s_poll_does_not_change_the_term(redis: Redis, terms: Terms) -> None:
    term = await taken(terms)
    await redis.pexpire(LEADER, 30_000)
    epoch = await redis.get(EPOCH)
    await Terms(redis, TWO, TIMING).take()
    assert (await holder(redis))[1] <= 30_000
    assert await redis.get(EPOCH) == epoch
    await extended(terms, term)


async def test_a_term_that_has_run_out_is_taken_by_the_next(redis: Redis) -> None:
    short = Terms(redis, ONE, Timing(term_ms=50))
    term = await taken(short)
    two = Terms(redis, TWO, TIMING)
    async with asyncio.timeout(20):
        while isinstance(taken_by_two := await two.take(), Other):
            await asyncio.sleep(taken_by_two.left_s)
    # It ended here first: trust is counted from before the request was sent.
    assert term.is_over
    with pytest.raises(Unavailable):
        await short.extend(term)
    assert (await holder(redis))[0] == TWO.encode()


@pytest.mark.parametrize("loss", ["reply", "connection"])
async def test_a_node_that_took_it_without_hearing_so_takes_it_again(
    redis: Redis, redis_server: RedisServer, loss: Loss
) -> None:
    async with losing_proxy(redis_server.port) as proxy, behind(proxy, redis) as terms:
        proxy.lose(loss)
        with pytest.raises(Unavailable):
            await terms.take()
        assert (await holder(redis))[0] == ONE.encode()
        await redis.pexpire(LEADER, 1000)
        term = await taken(terms)
        assert (await holder(redis))[1] > 1000
        await extended(terms, term)


async def test_a_term_without_an_end_gets_one(redis: Redis, terms: Terms) -> None:
    await redis.set(LEADER, TWO)
    other = await terms.take()
    assert other == Other(TWO, LONGEST_TERM_MS / 1000)
    assert 0 < await redis.pttl(LEADER) <= LONGEST_TERM_MS
    await redis.pexpire(LEADER, 5000)
    again = await terms.take()
    assert isinstance(again, Other)
    assert again.left_s <= 5


async def test_a_leader_id_that_is_not_text_is_another_node(redis: Redis, terms: Terms) -> None:
    await redis.set(LEADER, b"\xff\x00-\xfe", px=1000)
    other = await terms.take()
    assert isinstance(other, Other)
    assert "�" in other.node_id


async def test_something_else_at_the_key_is_unavailable_and_left_alone(redis: Redis, terms: Terms) -> None:
    await redis.rpush(LEADER, "not a string")
    with pytest.raises(Unavailable, match="WRONGTYPE"):
        await terms.take()
    assert await redis.type(LEADER) == b"list"


# --- extending


async def test_an_extension_lets_it_last_from_now_on(redis: Redis, terms: Terms) -> None:
    term = await taken(terms)
    until_s = term.lasts_until_s
    for _ in range(3):
        await redis.pexpire(LEADER, 1000)
        await extended(terms, term)
        assert (await holder(redis))[1] > 1000
        assert term.lasts_until_s > until_s
        until_s = term.lasts_until_s


async def test_an_extension_makes_an_endless_term_of_ours_end(redis: Redis, terms: Terms) -> None:
    term = await taken(terms)
    await redis.persist(LEADER)
    await extended(terms, term)
    assert 0 < (await holder(redis))[1] <= TERM_MS


async def test_no_extension_after_redis_lost_its_data(redis: Redis, terms: Terms) -> None:
    term = await taken(terms)
    await redis.flushall()
    assert await terms.extend(term) == "another node leads now, or Redis has lost its data"
    assert not await redis.exists(LEADER, EPOCH)


async def test_no_extension_after_another_took_it(redis: Redis, terms: Terms) -> None:
    term = await taken(terms)
    await redis.delete(LEADER)
    other = Terms(redis, TWO, TIMING)
    others = await taken(other)
    await redis.pexpire(LEADER, 30_000)
    assert await terms.extend(term) == "another node leads now, or Redis has lost its data"
    id_, left_ms = await holder(redis)
    assert (id_, left_ms <= 30_000) == (TWO.encode(), True)
    await extended(other, others)


@pytest.mark.parametrize("extensions_lost", [1, 2, 5])
async def test_no_extension_after_an_old_backup_was_restored(redis: Redis, terms: Terms, extensions_lost: int) -> None:
    term = await taken(terms)
    await extended(terms, term)
    old_copy = cast("bytes", await redis.get(EPOCH))
    for _ in range(extensions_lost):
        await extended(terms, term)
    # A fail-over, or a restart from a file, that still knew this leader.
    await redis.set(EPOCH, old_copy)
    assert await terms.extend(term) == "Redis lost data"
    # The same node may lead again, from a new beginning.
    await extended(terms, await taken(terms))


@pytest.mark.parametrize("epoch", [None, b"", b"\xff", b"0123456789abcdef:0"])
async def test_no_extension_when_the_epoch_is_gone_or_a_stranger_s(
    redis: Redis, terms: Terms, epoch: bytes | None
) -> None:
    term = await taken(terms)
    await (redis.delete(EPOCH) if epoch is None else redis.set(EPOCH, epoch))
    assert await terms.extend(term) == "Redis lost data"


async def test_an_epoch_of_an_earlier_term_of_the_same_node_does_not_count_for_this_one(
    redis: Redis, terms: Terms
) -> None:
    await taken(terms)
    earlier = cast("bytes", await redis.get(EPOCH))
    term = await taken(terms)
    assert await redis.get(EPOCH) != earlier
    await redis.set(EPOCH, earlier)
    assert await terms.extend(term) == "Redis lost data"


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("loss", ["reply", "connection", "request"])
async def test_an_extension_whose_reply_is_lost_is_followed_by_a_good_one(
    redis: Redis, redis_server: RedisServer, loss: Loss, times: int
) -> None:
    async with losing_proxy(redis_server.port) as proxy, behind(proxy, redis) as terms:
        term = await taken(terms)
        await extended(terms, term)
        proxy.lose(loss, times)
        until_s = term.lasts_until_s
        for _ in range(times):
            with pytest.raises(Unavailable):
                await terms.extend(term)
        # What was not heard does not count.
        assert term.lasts_until_s == until_s
        for _ in range(2):
            await extended(terms, term)
        assert term.lasts_until_s > until_s


# --- how long it is trusted


async def test_a_term_counts_from_before_the_request_was_sent(own_redis_server: RedisServer) -> None:
    async with connected(own_redis_server.port) as client:
        terms = Terms(client, ONE, TIMING)
        await extended(terms, await taken(terms))  # Redis knows the scripts from here on.
        term, asked_s = await while_frozen(own_redis_server, taken(terms))
        assert term.lasts_until_s <= asked_s + TERM_MS / 1000
        _, asked_s = await while_frozen(own_redis_server, extended(terms, term))
        assert term.lasts_until_s <= asked_s + TERM_MS / 1000


async def while_frozen(server: RedisServer, request: Coroutine[Any, Any, T]) -> tuple[T, float]:
    """Send a request to a Redis that answers only later; return its answer, and an instant between the two."""
    server.pause()
    asked = asyncio.create_task(request)
    await asyncio.sleep(0)
    asked_s = time.monotonic()
    server.resume()
    return await asked, asked_s


async def test_an_extension_is_not_waited_for_beyond_the_end_of_the_term(own_redis_server: RedisServer) -> None:
    async with connected(own_redis_server.port) as client:
        terms = Terms(client, ONE, Timing(term_ms=500, redis_timeout_s=100))
        term = await taken(terms)
        own_redis_server.pause()
        async with asyncio.timeout(50):
            with pytest.raises(Unavailable, match="no answer"):
                await terms.extend(term)
        assert term.is_over


def test_a_term_is_over_by_the_local_clock_or_by_its_end() -> None:
    assert Term(ONE, time.monotonic() - 0.001).is_over
    term = Term(ONE, time.monotonic() + 3600)
    assert not term.is_over
    term.ended.set()
    assert term.is_over


# --- resigning


async def test_resigning_ends_the_own_term_and_wakes_the_others(redis: Redis, terms: Terms) -> None:
    await taken(terms)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(SIGNALS)
        assert (await pubsub.get_message(timeout=10) or {})["type"] == "subscribe"
        assert await terms.resign()
        message = await pubsub.get_message(timeout=10)
        assert message
        assert (message["type"], message["data"]) == ("message", b"vacant")
    assert not await redis.exists(LEADER)
    await taken(Terms(redis, TWO, TIMING))


@pytest.mark.parametrize("others", [TWO.encode(), ONE.encode() + b"0", b"\xff", None])
async def test_only_the_own_term_is_resigned(redis: Redis, terms: Terms, others: bytes | None) -> None:
    if others:
        await redis.set(LEADER, others, px=TERM_MS)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(SIGNALS)
        assert (await pubsub.get_message(timeout=10) or {})["type"] == "subscribe"
        assert not await terms.resign()
        await redis.publish(SIGNALS, "the next message")
        message = await pubsub.get_message(timeout=10)
        assert message
        assert message["data"] == b"the next message"
    assert await redis.get(LEADER) == others


async def test_no_extension_after_resigning(redis: Redis, terms: Terms) -> None:
    term = await taken(terms)
    await terms.resign()
    assert isinstance(await terms.extend(term), str)
    assert not await redis.exists(LEADER)


# --- beside Go producers


@pytest.mark.parametrize("go_node", GO_NODES)
async def test_a_go_node_that_leads_leaves_its_mark_for_a_while(redis: Redis, terms: Terms, go_node: str) -> None:
    await redis.set(LEADER, go_node, px=TERM_MS)
    other = await terms.take()
    assert isinstance(other, Other)
    assert other.node_id == go_node
    assert 0 < await redis.pttl(GO_SEEN) <= TIMING.go_seen_ms
    await redis.pexpire(GO_SEEN, 10)
    await terms.take()
    assert await redis.pttl(GO_SEEN) > 10


@pytest.mark.parametrize("ours", [TWO, *OTHER_NODES])
async def test_a_node_of_ours_that_leads_leaves_no_mark(redis: Redis, terms: Terms, ours: str) -> None:
    await redis.set(LEADER, ours, px=TERM_MS)
    assert isinstance(await terms.take(), Other)
    assert not await redis.exists(GO_SEEN)


async def test_the_id_that_a_node_gives_itself_is_not_a_go_node_s(redis: Redis, terms: Terms) -> None:
    quiet = TestNode()
    ids = {make_node(quiet.node.log, TIMING, quiet.stop).id for _ in range(200)}
    assert len(ids) == 200
    for id_ in ids:
        await redis.set(LEADER, id_, px=TERM_MS)
        assert isinstance(await terms.take(), Other)
    assert not await redis.exists(GO_SEEN)


async def test_a_go_node_s_way_of_taking_and_renewing_leaves_ours_out(redis: Redis, terms: Terms) -> None:
    assert await redis.set(LEADER, "producer-1", nx=True, ex=10)
    assert isinstance(await terms.take(), Other)
    # It renews with GET, then EXPIRE.
    assert await redis.get(LEADER) == b"producer-1"
    await redis.expire(LEADER, 10)
    other = await terms.take()
    assert isinstance(other, Other)
    assert 0 < other.left_s <= 10
    await redis.delete(LEADER)
    await taken(terms)
    assert not await redis.set(LEADER, "producer-1", nx=True, ex=10)


# --- without a database, beside nodes that have theirs


async def healthy_until(redis: Redis, node_id: str, in_ms: int) -> None:
    seconds, micros = await redis.time()
    await redis.zadd(HEALTHY, {node_id: seconds * 1000 + micros // 1000 + in_ms})


async def test_a_free_term_is_left_to_a_node_with_a_healthy_database(redis: Redis, terms: Terms) -> None:
    await healthy_until(redis, TWO, 60_000)
    assert await terms.take(healthy=False) is None
    assert (await holder(redis))[0] is None
    assert isinstance(await Terms(redis, TWO, TIMING).take(), Term)


async def test_a_task_of_its_own_that_it_has_forgotten_is_left_too(redis: Redis, terms: Terms) -> None:
    await taken(terms)
    await healthy_until(redis, TWO, 60_000)
    assert await terms.take(healthy=False) is None
    assert (await holder(redis))[0] is None


async def test_where_no_live_node_has_one_it_leads_without(redis: Redis, terms: Terms) -> None:
    await healthy_until(redis, ONE, 60_000)
    await healthy_until(redis, TWO, -1)
    assert isinstance(await terms.take(healthy=False), Term)


async def test_it_resigns_to_a_healthy_node_and_to_none_other(redis: Redis, terms: Terms) -> None:
    await taken(terms)
    await healthy_until(redis, ONE, 60_000)
    assert not await terms.resign(to_healthy=True)
    assert (await holder(redis))[0] == ONE.encode()
    await healthy_until(redis, TWO, 60_000)
    assert await terms.resign(to_healthy=True)
    assert (await holder(redis))[0] is None
