"""The way to Redis: a client that never retries on its own, and errors that say who must act."""

from contextlib import AbstractAsyncContextManager
from importlib.resources import files

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import InvalidResponse, RedisError

from peekaping_producer.answered import answered_by
from peekaping_producer.config import RedisSettings
from peekaping_producer.errors import ConfigurationError, Unavailable
from peekaping_producer.schedule.advice import code_of, reason_with_advice
from peekaping_producer.schedule.pool import Pool, keepalive_options
from peekaping_producer.schedule.refusals import missing_rights, problem_of
from peekaping_producer.tls_probe import TLS_ONLY, speaks_tls

OLDEST_REDIS = (6, 2)
"""ZRANGE … BYSCORE came with it."""
_HUNG_UP = (ConnectionLost, InvalidResponse)
"""What redis-py makes of a server that closes a connection, or speaks another language."""
_MOST_CONNECTIONS = 256
"""More than the loops of a node can use at once, with the highest PRODUCER_CONCURRENCY; they are opened on demand."""

_SHARED_SCRIPTS = frozenset({"time", "healthy"})


def open_redis(settings: RedisSettings, timeout_s: float) -> Redis:
    """Return a client; nothing is connected yet.

    redis-py would retry ten times by itself: a claim whose reply is lost must not be sent again, and every other
    retry is the caller's to decide and to log.
    """
    pool = Pool(
        host=settings.redis_host,
        port=settings.redis_port,
        db=settings.redis_db,
        password=settings.redis_password.get_secret_value() if settings.redis_password else None,
        socket_keepalive=True,
        socket_keepalive_options=keepalive_options(),
        # Every call is bounded by `answered`; redis-py's own bound may swallow a cancellation on Python 3.11.
        socket_timeout=None,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        # Monitor ids that are no text must come back to Redis as they came from it.
        encoding_errors="surrogateescape",
        client_name="peekaping-producer",
        max_connections=_MOST_CONNECTIONS,
    )
    return Redis.from_pool(pool)


def answered(timeout_s: float) -> AbstractAsyncContextManager[None]:
    """Bound what is inside by `timeout_s`, and raise Unavailable for whatever keeps Redis from doing it."""
    return answered_by("redis", timeout_s, _reason, code_of)


def load_script(redis: Redis, package: str, *names: str) -> AsyncScript:
    """Return the script of these files of a package, run by EVALSHA and loaded when Redis does not know it.

    `time` and `healthy` are shared by all packages.
    """
    texts = [files(__package__ if name in _SHARED_SCRIPTS else package) / f"{name}.lua" for name in names]
    return redis.register_script("\n".join(text.read_text("utf-8") for text in texts))


async def check_redis(redis: Redis, timeout_s: float) -> None:
    """Make sure that Redis answers and can hold a schedule.

    Raises Unavailable while it does not answer, is starting or refuses for a reason that can pass, and
    ConfigurationError for what only a person can fix: a refused password, a database number that is not there, a
    missing right, a port that speaks TLS only, a version before 6.2, Redis Cluster.
    """
    try:
        async with answered(timeout_s):
            await redis.ping()
            info = await redis.info()
    except Unavailable as error:
        await _raise_for_operator(error, redis)
        raise
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise ConfigurationError(f"REDIS_HOST is a Redis {version}: 6.2 or newer is needed")
    if info.get("cluster_enabled"):
        raise ConfigurationError(
            "REDIS_HOST is a Redis Cluster: Peekaping's keys lie in different slots; use a single Redis"
        )


async def check_rights(redis: Redis, timeout_s: float) -> None:
    """Make sure that the Redis user may do all that a producer does. Raises as `check_redis` does."""
    async with answered(timeout_s):
        problem = await missing_rights(redis)
    if problem:
        raise ConfigurationError(problem)


async def _raise_for_operator(error: Unavailable, redis: Redis) -> None:
    """Raise ConfigurationError where only a person can fix what is behind an error."""
    cause = error.__cause__
    problem = problem_of(cause) if isinstance(cause, RedisError) else None
    if problem:
        raise ConfigurationError(problem) from error
    if type(cause) in _HUNG_UP:
        address = redis.connection_pool.connection_kwargs
        host, port = address["host"], address["port"]
        if await speaks_tls(host, port):
            raise ConfigurationError(f"REDIS_HOST is {host!r}, REDIS_PORT is {port}: {TLS_ONLY}") from error


def _reason(error: Exception) -> str | None:
    return reason_with_advice(error) if isinstance(error, RedisError | OSError) else None
