"""The way to Redis: a client that never retries on its own, and errors that say who must act."""

from contextlib import AbstractAsyncContextManager
from importlib.resources import files

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from peekaping_producer.answered import answered_by
from peekaping_producer.config import RedisSettings
from peekaping_producer.errors import ConfigurationError
from peekaping_producer.schedule.advice import code_of, reason_with_advice
from peekaping_producer.schedule.pool import Pool, keepalive_options
from peekaping_producer.schedule.refusals import problem_of

OLDEST_REDIS = (6, 2)
"""ZRANGE … BYSCORE came with it."""


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
    )
    return Redis.from_pool(pool)


def answered(timeout_s: float) -> AbstractAsyncContextManager[None]:
    """Bound what is inside by `timeout_s`, and raise Unavailable for whatever keeps Redis from doing it."""
    return answered_by("redis", timeout_s, _reason, code_of)


def load_script(redis: Redis, package: str, *names: str) -> AsyncScript:
    """Return the script of these files of a package, run by EVALSHA and loaded when Redis does not know it."""
    folder = files(package)
    return redis.register_script("\n".join(folder.joinpath(f"{name}.lua").read_text("utf-8") for name in names))


async def check_redis(redis: Redis, timeout_s: float) -> None:
    """Make sure that Redis answers and can hold a schedule.

    Raises Unavailable while it does not answer, is starting or refuses for a reason that can pass, and
    ConfigurationError for what only a person can fix: a refused password, a database number that is not there, a
    missing right, a version before 6.2, Redis Cluster.
    """
    async with answered(timeout_s):
        try:
            await redis.ping()
            info = await redis.info()
        except RedisError as error:
            problem = problem_of(error)
            if problem is None:
                raise
            raise ConfigurationError(problem) from error
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise ConfigurationError(f"REDIS_HOST is a Redis {version}: 6.2 or newer is needed")
    if info.get("cluster_enabled"):
        raise ConfigurationError(
            "REDIS_HOST is a Redis Cluster: Peekaping's keys lie in different slots; use a single Redis"
        )


def _reason(error: Exception) -> str | None:
    return reason_with_advice(error) if isinstance(error, RedisError | OSError) else None


def _one_line(error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return reason.removesuffix(".")
