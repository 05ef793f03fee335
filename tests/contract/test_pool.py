"""Connections to Redis: TCP keeps them alive, and they are closed when another server may be the one to use."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.errors import Unavailable
from peekaping_producer.node.redis_watch import RedisWatch
from peekaping_producer.redisdb.client import answered, open_redis
from peekaping_producer.redisdb.keys import SIGNALS
from peekaping_producer.redisdb.pool import drop_connections, dropped_subscriptions, note_subscription
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.timing import Timing
from support.databases import SqliteDatabase
from support.nodes import TestNode, connected, running
from support.waiting import until

NAME = b"peekaping-producer"


@asynccontextmanager
async def client_of(database: SqliteDatabase, server: RedisServer) -> AsyncIterator[Redis]:
    """Connect as a node does."""
    redis = open_redis(database.settings(redis_host="127.0.0.1", redis_port=server.port), 10)
    try:
        yield redis
    finally:
        await redis.aclose()


async def connection_ids(observer: Redis) -> set[str]:
    """Return the connections that Redis has with clients like a node."""
    clients: list[dict[str, str]] = await observer.client_list()
    return {client["id"] for client in clients if client["name"] == NAME.decode()}


async def connections(observer: Redis) -> int:
    """Count them."""
    return len(await connection_ids(observer))


async def test_tcp_keeps_connections_alive(sqlite_db: SqliteDatabase, redis_server: RedisServer) -> None:
    async with client_of(sqlite_db, redis_server) as redis:
        connection = await redis.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        own: socket.socket = connection._writer.get_extra_info("socket")
        assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        probing = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        idle_s, every_s, probes = (own.getsockopt(socket.IPPROTO_TCP, option) for option in probing)
        assert idle_s + every_s * probes <= 30
        await redis.connection_pool.release(connection)


async def test_a_connection_in_use_meanwhile_goes_when_it_is_returned(
    sqlite_db: SqliteDatabase, redis_server: RedisServer
) -> None:
    async with connected(redis_server.port) as observer, client_of(sqlite_db, redis_server) as redis:
        waiting = asyncio.ensure_future(redis.blpop(["peekaping:producer:none"], timeout=10))
        await until(lambda: blocked(observer), "the command waits for its answer")
        before = await connection_ids(observer)
        await drop_connections(redis, subscriptions=False)
        await observer.rpush("peekaping:producer:none", "x")
        await waiting
        await redis.ping()
        assert before.isdisjoint(await connection_ids(observer))


async def blocked(observer: Redis) -> bool:
    """Return whether a client waits for its answer."""
    return bool((await observer.info("clients"))["blocked_clients"])


async def test_when_an_outage_begins_idle_connections_go_and_when_it_ends_subscriptions_too(
    sqlite_db: SqliteDatabase, redis_server: RedisServer
) -> None:
    test = TestNode()
    async with connected(redis_server.port) as observer, client_of(sqlite_db, redis_server) as redis:
        watch = RedisWatch(test.node, redis, Schedule(redis, Timing()))

        async def are(count: int) -> bool:
            return await connections(observer) == count

        async with running(watch.connections_loop()), redis.pubsub() as pubsub:
            await pubsub.subscribe(SIGNALS)
            note_subscription(redis, pubsub.connection)
            await asyncio.gather(*(redis.ping() for _ in range(4)))
            before = await connections(observer)
            assert before >= 3
            test.node.claims.failed(Unavailable("redis", "gone"))
            await until(lambda: are(1), "only the subscription is left")
            test.node.claims.recovered()
            await until(lambda: are(0), "none is left")


async def test_a_server_that_can_not_serve_us_loses_its_connection(
    sqlite_db: SqliteDatabase, own_redis_server: RedisServer
) -> None:
    async with connected(own_redis_server.port) as observer, client_of(sqlite_db, own_redis_server) as redis:
        await redis.set("key", "value")
        first = await redis.client_id()
        assert await redis.client_id() == first, "a connection is used again"
        await observer.replicaof("127.0.0.1", "1")
        with pytest.raises(Unavailable, match="replica"):
            async with answered(10):
                await redis.set("key", "value")
        assert await redis.client_id() != first


async def test_a_connection_that_was_a_subscription_is_not_closed_under_the_command_that_uses_it_now(
    sqlite_db: SqliteDatabase, redis_server: RedisServer
) -> None:
    async with client_of(sqlite_db, redis_server) as redis:
        async with redis.pubsub() as pubsub:
            await pubsub.subscribe(SIGNALS)
            note_subscription(redis, pubsub.connection)
        connection = await redis.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        await connection.send_command("PING")
        await drop_connections(redis, subscriptions=True)
        assert await connection.read_response() == b"PONG"
        await redis.connection_pool.release(connection)


async def test_a_node_that_stops_closes_no_connection_before_its_last_commands(
    sqlite_db: SqliteDatabase, redis_server: RedisServer
) -> None:
    test = TestNode()
    async with client_of(sqlite_db, redis_server) as redis:
        watch = RedisWatch(test.node, redis, Schedule(redis, Timing()))
        await redis.ping()
        dropped = dropped_subscriptions(redis)
        async with running(watch.connections_loop()) as (loop,):
            test.node.stop.set()
            await loop
        assert dropped_subscriptions(redis) == dropped
