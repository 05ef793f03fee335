"""The checks of Redis at the start: what only a person can fix, in one line that says how."""

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import InvalidResponse, NoPermissionError, RedisError

from peekaping_producer.asynq import keys as asynq
from peekaping_producer.errors import ConfigurationError, Unavailable, one_line
from peekaping_producer.redisdb.client import answered
from peekaping_producer.redisdb.keys import DUE, INVALID, LEADER, NODE, SIGNALS
from peekaping_producer.redisdb.replies import code_of
from peekaping_producer.tls_probe import TLS_ONLY, speaks_tls

_NO_SUCH_DATABASE = "DB index is out of range"
_UNKNOWN_COMMAND = "unknown command"
"""Redis has no code for either."""
_ABSENT = f"{NODE}nobody"
_PROBES: tuple[tuple[str | int, ...], ...] = (
    ("EVALSHA", "0" * 40, 0),
    ("SCRIPT LOAD", "return 0"),
    ("PUBLISH", SIGNALS, ""),
    ("TIME",),
    ("GET", LEADER),
    ("MGET", LEADER),
    ("SET", _ABSENT, "", "XX"),
    ("DEL", _ABSENT),
    ("EXISTS", asynq.PENDING),
    ("LLEN", asynq.PENDING),
    ("LINDEX", asynq.PENDING, -1),
    ("ZADD", DUE, "XX", "GT", "-inf", ""),
    ("ZREM", DUE, ""),
    ("ZCARD", DUE),
    ("ZCOUNT", DUE, 0, 0),
    ("ZRANGE", DUE, 0, 0),
    ("ZSCORE", DUE, ""),
    ("HGET", INVALID, ""),
    ("HGETALL", _ABSENT),
    ("HLEN", INVALID),
    ("HDEL", INVALID, ""),
)
"""The producer's commands, each with arguments that change nothing: Redis checks rights before anything else."""

COMMANDS = (*dict.fromkeys(str(probe[0]) for probe in _PROBES), "SUBSCRIBE")
"""The commands whose rights are tried."""


def problem_of(error: RedisError) -> str | None:
    """Return the line for an operator; None if the refusal may be transient."""
    said = one_line(error)
    match code_of(error):
        case "NOAUTH":
            return "REDIS_PASSWORD is not set, and Redis at REDIS_HOST requires a password: set it"
        case "WRONGPASS":
            return f"REDIS_PASSWORD is refused by Redis at REDIS_HOST, set the right one: {said}"
        case "NOPERM":
            return f"the Redis user lacks a right, grant it by ACL: {said}"
    if _NO_SUCH_DATABASE in said:
        return "REDIS_DB is beyond the databases that Redis at REDIS_HOST has: choose a lower one, or raise `databases`"
    if _UNKNOWN_COMMAND in said:
        return f"Redis at REDIS_HOST lacks a command, 6.2 or newer is needed: {said}"
    return None


async def missing_rights(redis: Redis) -> str | None:
    """Try what the producer needs, changing nothing; return the line for an operator if a right is missing.

    Raises RedisError for any other failure of the connection.
    """
    async with redis.pipeline(transaction=False) as pipe:
        for probe in _PROBES:
            pipe.execute_command(*probe)
        replies = await pipe.execute(raise_on_error=False)
    refused = {
        str(probe[0]): reply
        for probe, reply in zip(_PROBES, replies, strict=True)
        if isinstance(reply, NoPermissionError)
    }
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(SIGNALS)
        try:
            await pubsub.get_message(timeout=None)
        except NoPermissionError as error:
            refused["SUBSCRIBE"] = error
    if not refused:
        return None
    said = one_line(next(iter(refused.values())))
    return f"the Redis user lacks the right to {', '.join(refused)}, grant it by ACL: {said}"


OLDEST_REDIS = (6, 2)
"""The first with ZRANGE … BYSCORE."""

_HUNG_UP = (ConnectionLost, InvalidResponse)
"""What redis-py raises if a server closes the connection, or speaks another protocol."""


async def check_redis(redis: Redis, timeout_s: float) -> None:
    """Make sure that Redis answers and can hold a schedule.

    Raises Unavailable while it does not answer, is starting, or refuses for a transient reason, and ConfigurationError
    for what only a person can fix: a refused password, a database number that does not exist, a missing right, a port
    that speaks TLS only, a version before 6.2, Redis Cluster.
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
            "REDIS_HOST is a Redis Cluster: Peekaping's keys are in different slots; use a single Redis"
        )


async def check_rights(redis: Redis, timeout_s: float) -> None:
    """Make sure that the Redis user has every right that a producer needs. Raises as `check_redis` does."""
    async with answered(timeout_s):
        problem = await missing_rights(redis)
    if problem:
        raise ConfigurationError(problem)


async def _raise_for_operator(error: Unavailable, redis: Redis) -> None:
    """Raise ConfigurationError if only a person can fix the cause of an error."""
    cause = error.__cause__
    problem = problem_of(cause) if isinstance(cause, RedisError) else None
    if problem:
        raise ConfigurationError(problem) from error
    if type(cause) in _HUNG_UP:
        address = redis.connection_pool.connection_kwargs
        host, port = address["host"], address["port"]
        if await speaks_tls(host, port):
            raise ConfigurationError(f"REDIS_HOST is {host!r}, REDIS_PORT is {port}: {TLS_ONLY}") from error
