"""The Redis client: it never retries on its own, and its errors say who must act."""

from contextlib import AbstractAsyncContextManager
from functools import cache, partial
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as NoAnswer

from peekaping_producer import APPLICATION
from peekaping_producer.config.addresses import Address
from peekaping_producer.config.redis_settings import RedisSettings
from peekaping_producer.deadline import answered_by, no_answer
from peekaping_producer.redisdb.login import login
from peekaping_producer.redisdb.pool import (
    Pool,
    PrimaryConnection,
    ServingConnection,
    SocketConnection,
    keepalive_options,
)
from peekaping_producer.redisdb.replies import code_of, reason_with_advice
from peekaping_producer.redisdb.sentinels import Sentinels
from peekaping_producer.redisdb.tls import tls_of

_MOST_CONNECTIONS = 256
"""More than a node can use at once with the highest PRODUCER_CONCURRENCY. They are opened on demand."""

_SHARED_SCRIPTS = frozenset({"time", "healthy", "go_node"})


def open_redis(settings: RedisSettings, timeout_s: float) -> Redis:
    """Return a client; nothing is connected yet. Raises ConfigurationError if TLS cannot be prepared.

    redis-py would retry ten times by itself. But a claim whose reply is lost must not be sent again, and every other
    retry is for the caller to decide and to log.
    """
    common: dict[str, Any] = {
        "tls": tls_of(settings),
        "tls_name": settings.redis_tls_server_name,
        # `answered` limits every call; redis-py's own limit may swallow a cancellation on Python 3.11.
        "socket_timeout": None,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        # The client's name and version are not sent to the server: that would need a right.
        "driver_info": None,
    }
    connection_class, where = _where(settings, common, timeout_s)
    pool = Pool(
        connection_class,
        **where,
        **common,
        db=settings.redis_db,
        credential_provider=login(settings.redis_username, settings.redis_password),
        socket_keepalive=True,
        socket_keepalive_options=keepalive_options(),
        # Monitor ids that are not valid UTF-8 must go back to Redis as they came.
        encoding_errors="surrogateescape",
        client_name=APPLICATION,
        max_connections=_MOST_CONNECTIONS,
    )
    return Redis.from_pool(pool)


def _where(
    settings: RedisSettings, common: dict[str, Any], timeout_s: float
) -> tuple[type[ServingConnection], dict[str, Any]]:
    """Return the class of connections that lead to Redis, and the options that say where it is."""
    if settings.redis_sentinels:
        credentials = login(settings.redis_sentinel_username, settings.redis_sentinel_password)

        def connect(sentinel: Address) -> ServingConnection:
            return ServingConnection(host=sentinel.host, port=sentinel.port, credential_provider=credentials, **common)

        name = settings.redis_sentinel_master or ""
        return PrimaryConnection, {"sentinels": Sentinels(settings.redis_sentinels, name, connect, timeout_s)}
    if settings.redis_host.startswith("/"):
        return SocketConnection, {"host": settings.redis_host}
    return ServingConnection, {"host": settings.redis_host, "port": settings.redis_port}


def answered(timeout_s: float) -> AbstractAsyncContextManager[None]:
    """Limit the block to `timeout_s`, and raise Unavailable if Redis fails or does not answer in time."""
    return answered_by("redis", timeout_s, partial(_reason, timeout_s), code_of)


def load_script(redis: Redis, package: str, *names: str) -> AsyncScript:
    """Return the script that these files of a package make, in this order; some are shared by all packages.

    It is run by EVALSHA, and loaded if Redis does not know it.
    """
    return redis.register_script(_text_of_script(package, *names))


@cache
def _text_of_script(package: str, *names: str) -> str:
    texts = [files(__package__ if name in _SHARED_SCRIPTS else package) / f"{name}.lua" for name in names]
    return "\n".join(text.read_text("utf-8") for text in texts)


def text_of(part: bytes) -> str:
    """Return a part of a reply as text. An id that is not valid UTF-8 goes back to Redis as it came."""
    return part.decode("utf-8", "surrogateescape")


def _reason(timeout_s: float, error: Exception) -> str | None:
    if isinstance(error, NoAnswer):  # redis-py's own limit, which is that of connecting
        return no_answer(timeout_s)
    return reason_with_advice(error) if isinstance(error, RedisError | OSError) else None
