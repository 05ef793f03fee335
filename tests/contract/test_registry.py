"""The registry of nodes: a person sees the fleet, and a node that is gone is seen no more."""

import msgspec
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from peekaping_producer import __version__
from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.errors import Unavailable
from peekaping_producer.fleet.heartbeat import check_database, heartbeat_loop
from peekaping_producer.fleet.invalid_monitors import InvalidMonitors
from peekaping_producer.fleet.registry import NodeInfo, Registry
from peekaping_producer.leader.sweep import Swept
from peekaping_producer.observe.history import Recent
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.redisdb.keys import HEALTHY, INACTIVE, NODE, NODES
from peekaping_producer.report.status import read_status
from peekaping_producer.timing import Timing
from support.nodes import LONG_S, TestNode, connected, running
from support.redis_time import redis_now_ms, until_ms
from support.waiting import until

TIMING = Timing(heartbeat_every_s=20, gone_kept_s=500, redis_timeout_s=10)
INFO = NodeInfo(
    id="host-1-na0",
    version="1.2.3",
    started="2026-01-02T03:04:05Z",
    leader=True,
    concurrency=10,
    checks=12_345,
    lateness_p50_ms=3,
    lateness_p99_ms=None,
    database_problem="no answer within 2 s",
    checks_from_cache=17,
    cache_age_s=1.5,
    swept={"seen": 7, "seconds": 0.5},
)


@pytest.fixture
def registry(redis: Redis) -> Registry:
    return Registry(redis, TIMING)


async def test_what_a_node_says_of_itself_is_read_as_it_was_written(registry: Registry) -> None:
    await registry.register(INFO)
    assert await registry.nodes() == [INFO]


async def test_a_node_is_listed_once_and_its_last_record_counts(redis: Redis, registry: Registry) -> None:
    for checks in range(3):
        await registry.register(replace(INFO, checks=checks))
    assert await registry.nodes() == [replace(INFO, checks=2)]
    assert await redis.zcard(NODES) == 1


async def test_nodes_come_in_the_order_of_their_ids(registry: Registry) -> None:
    for id_ in ("c-1-n0", "a-1-n0", "b-1-n0"):
        await registry.register(replace(INFO, id=id_))
    assert [node.id for node in await registry.nodes()] == ["a-1-n0", "b-1-n0", "c-1-n0"]


async def test_no_nodes(registry: Registry) -> None:
    assert await registry.nodes() == []


async def test_a_record_ends_by_itself_when_its_node_has_been_gone_for_long(redis: Redis, registry: Registry) -> None:
    before_ms = await redis_now_ms(redis)
    await registry.register(INFO)
    after_ms = await redis_now_ms(redis)
    assert 0 < await redis.pttl(NODE + INFO.id) <= 560_000
    score_ms = await redis.zscore(NODES, INFO.id)
    assert score_ms is not None
    assert before_ms + 60_000 <= score_ms <= after_ms + 60_000
    (node,) = await registry.seen()
    assert before_ms <= node.last_seen_ms <= after_ms
    assert (node.info, node.gone) == (INFO, False)


async def test_a_node_that_died_is_shown_as_gone_for_a_while(redis: Redis, registry: Registry) -> None:
    """After three times the interval; the next to register forgets it when it has been gone for long."""
    died = Registry(redis, Timing(heartbeat_every_s=0.02, gone_kept_s=500))
    before_ms = await redis_now_ms(redis)
    await died.register(INFO)
    after_ms = await redis_now_ms(redis)
    await until_ms(redis, after_ms + 61)
    assert await died.nodes() == []
    (node,) = await died.seen()
    assert (node.info, node.gone) == (INFO, True)
    assert before_ms <= node.last_seen_ms <= after_ms
    other = replace(INFO, id="host-2-nb1")
    await registry.register(other)
    assert [(one.info.id, one.gone) for one in await registry.seen()] == [(INFO.id, True), (other.id, False)]
    await Registry(redis, Timing(gone_kept_s=0)).register(other)
    assert await redis.zrange(NODES, 0, -1) == [other.id.encode()]
    assert [one.info for one in await registry.seen()] == [other]


@pytest.mark.parametrize("score", [float("inf"), float("-inf"), 1e300, -5.0])
async def test_a_score_that_is_not_a_time_affects_nothing_else(redis: Redis, registry: Registry, score: float) -> None:
    await registry.register(INFO)
    await redis.zadd(NODES, {INFO.id: score})
    (node,) = await registry.seen()
    assert 0 <= node.last_seen_ms <= await redis_now_ms(redis)
    assert node.gone == (score < 0)


async def test_a_node_that_stops_is_neither_alive_nor_gone_and_what_it_did_is_kept(
    redis: Redis, registry: Registry
) -> None:
    other = replace(INFO, id="host-2-nb1", database_problem=None)
    await registry.register(INFO)
    await registry.register(other)
    stopped = replace(INFO, recent=Recent(missed={"redis": 2}))
    await registry.set_inactive(stopped)
    assert [node.info for node in await registry.seen()] == [other]
    assert await redis.zrange(HEALTHY, 0, -1) == [other.id.encode()]
    (inactive,) = await registry.inactive()
    assert inactive.info == stopped
    assert 0 <= await redis_now_ms(redis) - inactive.last_seen_ms < 5_000
    assert 15 * 60_000 < await redis.pttl(NODE + INFO.id) <= 16 * 60_000
    await redis.zadd(INACTIVE, {INFO.id: await redis_now_ms(redis) - 1})
    assert await registry.inactive() == []


async def test_a_node_that_waits_for_its_database_is_known_to_the_others_until_it_is_ready(
    redis: Redis, registry: Registry
) -> None:
    test = TestNode(TIMING)

    async def check() -> None:
        raise Unavailable("database", "connection refused")

    async def ready() -> None:
        """Find the database there."""

    with pytest.raises(Unavailable, match="connection refused"):
        await check_database(check, test.node, registry)
    (waiting,) = (await read_status(redis, TIMING)).inactive_nodes
    assert (waiting.id, waiting.database_problem) == (test.node.id, "connection refused")
    status = await read_status(redis, TIMING)
    assert not status.running
    assert f"{test.node.id}: waits for its database, connection refused" in status.trouble
    await check_database(ready, test.node, registry)
    await registry.register(NodeInfo(test.node.id))
    assert (await read_status(redis, TIMING)).inactive_nodes == []


@pytest.mark.parametrize(
    "record",
    [
        *(b"", b"{", b"null", b"[]", b"{}", b'{"id": 7}', b"\xff", b"[" * 10_000, b'{"id": "\xff"}'),
        pytest.param(b'{"unknown": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="deep"),
    ],
)
async def test_a_record_that_can_t_be_read_is_left_out(redis: Redis, registry: Registry, record: bytes) -> None:
    await registry.register(INFO)
    await redis.zadd(NODES, dict.fromkeys((b"a-1-n0", b"\xff\xfe", b"z-without-a-record"), 10**13))
    await redis.set(NODE + "a-1-n0", record)
    await redis.set(NODE.encode() + b"\xff\xfe", record)
    assert await registry.nodes() == [INFO]


async def test_a_record_of_a_newer_version_is_read_as_far_as_it_is_known(redis: Redis, registry: Registry) -> None:
    record = msgspec.to_builtins(INFO) | {"region": "north", "swept": None}
    await redis.zadd(NODES, {INFO.id: 10**13})
    await redis.set(NODE + INFO.id, msgspec.json.encode(record))
    assert await registry.nodes() == [replace(INFO, swept=None)]


async def test_a_record_without_some_fields_is_read_with_their_defaults(redis: Redis, registry: Registry) -> None:
    await redis.zadd(NODES, {INFO.id: 10**13})
    await redis.set(NODE + INFO.id, msgspec.json.encode({"id": INFO.id, "leader": True}))
    assert await registry.nodes() == [NodeInfo(INFO.id, leader=True)]


async def test_a_registry_without_redis_is_unavailable(own_redis_server: RedisServer) -> None:
    async with connected(own_redis_server.port) as client:
        registry = Registry(client, Timing(redis_timeout_s=0.3))
        own_redis_server.pause()
        for call in (registry.register(INFO), registry.set_inactive(INFO), registry.nodes()):
            with pytest.raises(Unavailable):
                await call


# --- the loop that writes it


async def test_a_running_node_is_in_the_registry_until_it_stops(redis: Redis, registry: Registry) -> None:
    test = TestNode(TIMING)
    async with running(heartbeat_loop(test.node, registry, InvalidMonitors(redis, test.node.timing), 7)) as (loop,):
        await until(lambda: _count(registry, 1))
        (info,) = await registry.nodes()
        assert (info.id, info.version, info.concurrency, info.leader) == (test.node.id, __version__, 7, False)
        assert (info.checks, info.lateness_p50_ms, info.database_problem, info.swept) == (0, None, None, None)
        assert info.started.endswith("Z")
        test.stop.set()
        await loop
    assert await registry.nodes() == []
    assert not await redis.exists(NODES)
    assert [node.info.id for node in await registry.inactive()] == [test.node.id]


async def _count(registry: Registry, count: int) -> bool:
    return len(await registry.nodes()) == count


async def test_a_change_of_leadership_is_published_at_once(redis: Redis, registry: Registry) -> None:
    test = TestNode(Timing(heartbeat_every_s=LONG_S, redis_timeout_s=10))
    async with running(heartbeat_loop(test.node, registry, InvalidMonitors(redis, test.node.timing), 1)):
        await until(lambda: _count(registry, 1))
        for leading in (True, False, True):
            test.node.status.lead(leading=leading)
            await until(lambda wanted=leading: _leads(registry, wanted))  # type: ignore[misc]


async def test_trouble_with_the_database_is_written_at_once(redis: Redis, registry: Registry) -> None:
    test = TestNode(Timing(heartbeat_every_s=LONG_S, redis_timeout_s=10))
    async with running(heartbeat_loop(test.node, registry, InvalidMonitors(redis, test.node.timing), 1)):
        await until(lambda: _count(registry, 1))
        test.node.database_outage.user().failed(Unavailable("database", "no answer within 2 s"))
        await until(lambda: _in_trouble(registry))


async def _in_trouble(registry: Registry) -> bool:
    (info,) = await registry.nodes()
    return info.database_problem == "no answer within 2 s"


async def _leads(registry: Registry, wanted: bool) -> bool:
    (info,) = await registry.nodes()
    return info.leader is wanted


async def test_a_record_holds_what_the_node_has_done_and_what_is_wrong(redis: Redis, registry: Registry) -> None:
    test = TestNode(Timing(heartbeat_every_s=0.02, redis_timeout_s=10))
    node = test.node
    node.tally.count([Outcome.ENQUEUED, Outcome.ENQUEUED, Outcome.REFRESHED, Outcome.HEALED_ARCHIVED])
    node.tally.count([Outcome.RUNNING, Outcome.LOST, Outcome.RELEASED, Outcome.DROPPED])
    node.tally.late([5] * 99 + [70])
    database = node.database_outage.user()
    database.failed(Unavailable("database", "no answer within 2 s"))
    node.status.swept = Swept(seen=3, added=1, moved=0, removed=2, relisted=1, invalid=0, seconds=0.25)
    async with running(heartbeat_loop(node, registry, InvalidMonitors(redis, node.timing), 1)):
        await until(lambda: _count(registry, 1))
        (info,) = await registry.nodes()
        assert (info.checks, info.lateness_p50_ms, info.lateness_p99_ms) == (4, 5, 5)
        assert info.database_problem == "no answer within 2 s"
        assert info.swept == msgspec.to_builtins(node.status.swept)
        assert info.swept
        assert info.swept["removed"] == 2
        database.recovered()
        await until(lambda: _works(registry))


async def _works(registry: Registry) -> bool:
    (info,) = await registry.nodes()
    return info.database_problem is None


async def test_a_node_whose_redis_was_unavailable_is_listed_again(own_redis_server: RedisServer) -> None:
    test = TestNode(Timing(heartbeat_every_s=0.05, redis_timeout_s=5))
    async with connected(own_redis_server.port) as client:
        registry = Registry(client, test.node.timing)
        async with running(heartbeat_loop(test.node, registry, InvalidMonitors(client, test.node.timing), 1)):
            await until(lambda: _count(registry, 1))
            own_redis_server.kill()
            await until(lambda: test.node.redis_outage.ongoing)
            own_redis_server.restart()
            await until(lambda: _count(registry, 1))
    assert len(test.logged("redis unavailable")) == 1


async def test_a_node_counts_as_healthy_while_its_database_answers_and_says_so_at_once(
    redis: Redis, registry: Registry
) -> None:
    test = TestNode(Timing(heartbeat_every_s=LONG_S, redis_timeout_s=10))

    async def healthy() -> bool:
        return await redis.zscore(HEALTHY, test.node.id) is not None

    async def unhealthy() -> bool:
        return not await healthy()

    async with running(heartbeat_loop(test.node, registry, InvalidMonitors(redis, test.node.timing), 1)) as (loop,):
        await until(healthy)
        database = test.node.database_outage.user()
        database.failed(Unavailable("database", "no answer within 2 s"))
        await until(unhealthy)
        database.recovered()
        await until(healthy)
        test.stop.set()
        await loop
    assert await unhealthy()
