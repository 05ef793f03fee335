"""Connects a command to Redis and the database, with the settings of `run` and without retries."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from peekaping_producer.catalog.catalog import Catalog, open_catalog
from peekaping_producer.config.redis_settings import RedisSettings
from peekaping_producer.config.settings import Settings
from peekaping_producer.redisdb.client import open_redis
from peekaping_producer.schedule.requirements import check_redis
from peekaping_producer.timing import Timing


@asynccontextmanager
async def connected_redis(settings: RedisSettings, timing: Timing) -> AsyncIterator[Redis]:
    """Connect for the duration of the block. Raises ConfigurationError and Unavailable, as `check_redis` does."""
    redis = open_redis(settings, timing.redis_timeout_s)
    try:
        await check_redis(redis, settings, timing.redis_timeout_s)
        yield redis
    finally:
        await redis.aclose()


@asynccontextmanager
async def opened_catalog(settings: Settings, timing: Timing) -> AsyncIterator[Catalog]:
    """Open the catalog for the duration of the block; nothing is connected yet. Raises ConfigurationError."""
    catalog = open_catalog(settings, connections=1, timeout_s=timing.read_deadline_s)
    try:
        yield catalog
    finally:
        await catalog.close()


@asynccontextmanager
async def connected_catalog(settings: Settings, timing: Timing) -> AsyncIterator[Catalog]:
    """Connect for the duration of the block. Raises ConfigurationError and Unavailable, as the catalog's check does."""
    async with opened_catalog(settings, timing) as catalog:
        await catalog.check()
        yield catalog
