"""Messages between nodes and from the API server: heard while the connection lives, and its death is noticed."""

import asyncio

import pytest
from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.errors import Unavailable
from peekaping_producer.fleet.signals import signals_loop
from peekaping_producer.node.stop import Bell
from peekaping_producer.redisdb.keys import SIGNALS
from peekaping_producer.redisdb.subscription import listen
from peekaping_producer.timing import Timing
from support.nodes import LONG_S, TestNode, connected, running
from support.waiting import until

ONE, TWO = "peekaping:events:monitor.created", "peekaping:events:monitor.deleted"
CALM = Timing(silence_s=LONG_S, redis_timeout_s=10, retry_first_s=0.02, retry_cap_s=0.1)


class Ear:
    """What a subscription has heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.subscribed = 0

    def on_message(self, channel: str, data: bytes) -> None:
        self.heard.append((channel, data))

    def on_subscribed(self) -> None:
        self.subscribed += 1

    async def listen(self, redis: Redis, timing: Timing = CALM) -> None:
        await listen(redis, [ONE, TWO], timing, self.on_message, self.on_subscribed)


async def test_messages_come_in_their_order_with_their_channels(redis: Redis) -> None:
    ear = Ear()
    sent = [(ONE, b"first"), (TWO, b"\xff\x00"), (ONE, b""), (ONE, b"x" * 2_000_000), (TWO, b"last")]
    async with running(ear.listen(redis)):
        await until(lambda: ear.subscribed == 1)
        for channel, data in sent:
            assert await redis.publish(channel, data) == 1
        assert await redis.publish("peekaping:events:heartbeat", b"nothing of ours") == 0
        await until(lambda: len(ear.heard) >= len(sent))
    assert ear.heard == sent


async def test_it_is_logged_once_that_all_channels_are_subscribed(redis: Redis) -> None:
    ear = Ear()
    async with running(ear.listen(redis)):
        await until(lambda: ear.subscribed > 0)
        assert [count for _, count in await redis.pubsub_numsub(ONE, TWO)] == [1, 1]
        await redis.publish(ONE, b"x")
        await until(lambda: bool(ear.heard))
    assert ear.subscribed == 1


async def test_the_connection_goes_with_the_listener(redis: Redis) -> None:
    ear = Ear()
    async with running(ear.listen(redis)):
        await until(lambda: ear.subscribed == 1)
    assert [count for _, count in await redis.pubsub_numsub(ONE, TWO)] == [0, 0]


async def test_silence_ends_no_subscription_while_redis_answers(redis: Redis) -> None:
    ear = Ear()
    timing = Timing(silence_s=0.05, redis_timeout_s=10)
    async with running(ear.listen(redis, timing)):
        await until(lambda: ear.subscribed == 1)
        pings = await _pings(redis)
        await until(lambda: _reached(redis, pings + 3))
        await redis.publish(TWO, b"still there")
        await until(lambda: ear.heard == [(TWO, b"still there")])
    assert ear.subscribed == 1


async def _pings(redis: Redis) -> int:
    stats = await redis.info("commandstats")
    return int(stats.get("cmdstat_ping", {"calls": 0})["calls"])


async def _reached(redis: Redis, calls: int) -> bool:
    return await _pings(redis) >= calls


async def test_a_redis_that_never_answers_is_noticed(own_redis_server: RedisServer) -> None:
    ear = Ear()
    async with connected(own_redis_server.port) as client, asyncio.timeout(60):
        listening = asyncio.create_task(ear.listen(client, Timing(silence_s=0.1, redis_timeout_s=0.3)))
        await until(lambda: ear.subscribed == 1)
        own_redis_server.pause()
        with pytest.raises(Unavailable):
            await listening
        own_redis_server.resume()


async def test_a_lost_connection_is_noticed_at_once(redis: Redis) -> None:
    ear = Ear()
    async with asyncio.timeout(60):
        listening = asyncio.create_task(ear.listen(redis))
        await until(lambda: ear.subscribed == 1)
        assert await redis.client_kill_filter(_type="pubsub") == 1
        with pytest.raises(Unavailable) as lost:
            await listening
    assert lost.value.system == "redis"


async def test_a_redis_that_does_not_answer_is_unavailable(own_redis_server: RedisServer) -> None:
    ear = Ear()
    own_redis_server.kill()
    async with connected(own_redis_server.port) as client:
        with pytest.raises(Unavailable):
            await ear.listen(client)
    assert ear.subscribed == 0


# --- signals


async def heard_by_all(redis: Redis, count: int) -> bool:
    return bool((await redis.pubsub_numsub(SIGNALS))[0][1] == count)


async def test_each_signal_rings_its_own_bell(redis: Redis) -> None:
    test, vacant = TestNode(CALM), Bell()
    due = test.node.due_sooner
    async with running(signals_loop(test.node, redis, vacant)):
        await until(lambda: heard_by_all(redis, 1))
        for strange in (b"", b"\xff", b"DUE", b"due "):
            await redis.publish(SIGNALS, strange)
        await redis.publish(SIGNALS, "vacant")
        assert await vacant.within(20)
        assert not await due.within(0)
        await redis.publish(SIGNALS, "due")
        assert await due.within(20)
        assert not await vacant.within(0)
        assert not await test.node.sweep_wanted.within(0)
        await redis.publish(SIGNALS, "clock")
        assert await test.node.sweep_wanted.within(20)


async def test_signals_are_heard_again_after_the_connection_was_lost(redis: Redis) -> None:
    test, vacant = TestNode(CALM), Bell()
    async with running(signals_loop(test.node, redis, vacant)):
        for _ in range(2):
            await until(lambda: heard_by_all(redis, 1))
            assert await redis.client_kill_filter(_type="pubsub") == 1
        await until(lambda: heard_by_all(redis, 1))
        await redis.publish(SIGNALS, "vacant")
        assert await vacant.within(20)


async def test_an_unavailable_redis_is_logged_and_tried_until_it_recovers(own_redis_server: RedisServer) -> None:
    test, vacant = TestNode(CALM), Bell()
    async with connected(own_redis_server.port) as client, running(signals_loop(test.node, client, vacant)):
        await until(lambda: heard_by_all(client, 1))
        own_redis_server.kill()
        await test.until_logged("redis unavailable")
        own_redis_server.restart()
        await until(lambda: heard_by_all(client, 1))


@pytest.mark.parametrize("times", range(5))
async def test_a_stop_ends_the_subscription_in_any_state(redis: Redis, times: int) -> None:
    test, vacant = TestNode(CALM), Bell()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(signals_loop(test.node, redis, vacant))
        for _ in range(times * 3):
            await asyncio.sleep(0)
        test.stop.set()
    await until(lambda: heard_by_all(redis, 0))
