"""A real Redis for every test that asks: one server per test process, emptied before each test."""

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from peekaping_producer.demo.redis_server import HOST, RedisServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Share one server among the tests of this process. A test that freezes, kills or fills it takes its own."""
    with RedisServer(tcp=True) as server:
        yield server


@pytest.fixture
def own_redis_server() -> Iterator[RedisServer]:
    """Start a server for this test alone, free to be paused, killed and restarted."""
    with RedisServer(tcp=True) as server:
        yield server


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """Connect to the shared server, empty at the start of the test; replies are bytes."""
    async with Redis(
        host=HOST,
        port=redis_server.port,
        retry=Retry(NoBackoff(), 0),
        # With one, Python 3.11 may swallow a cancellation that comes while a command is sent.
        socket_timeout=None,
        client_name="test",
    ) as client:
        await client.flushall()
        yield client
