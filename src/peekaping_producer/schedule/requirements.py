"""The checks of Redis at the start: what only a person can fix, in one line that says how."""

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from peekaping_producer.asynq import keys as asynq
from peekaping_producer.config.redis_settings import RedisSettings
from peekaping_producer.errors import ConfigurationError, Unavailable, one_line
from peekaping_producer.redisdb.client import answered
from peekaping_producer.redisdb.keys import DUE, INVALID, LEADER, NODE, PAUSE, SIGNALS
from peekaping_producer.redisdb.problems import for_operator

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
    ("HMGET", PAUSE, ""),
    ("HGETALL", _ABSENT),
    ("HLEN", INVALID),
    ("HDEL", INVALID, ""),
)
"""The producer's commands, each with arguments that change nothing: Redis checks rights before anything else."""

COMMANDS = (*dict.fromkeys(str(probe[0]) for probe in _PROBES), "SUBSCRIBE")
"""The commands whose rights are tried."""


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


async def check_redis(redis: Redis, settings: RedisSettings, timeout_s: float) -> None:
    """Make sure that Redis answers and can hold a schedule.

    Raises Unavailable while it does not answer, is starting, or refuses for a transient reason, and ConfigurationError
    for what only a person can fix: a refused password or certificate, TLS on one side only, a database number that
    does not exist, a missing right, a version before 6.2, a sentinel in its place, Redis Cluster.
    """
    try:
        async with answered(timeout_s):
            await redis.ping()
            info = await redis.info()
    except Unavailable as error:
        problem = await for_operator(error, settings)
        if problem:
            raise ConfigurationError(problem) from error
        raise
    version, place = str(info["redis_version"]), settings.redis_place
    if "sentinel" in (info.get("redis_mode"), info.get("server_mode")):  # of Redis, of Valkey
        raise ConfigurationError(f"{place} leads to a sentinel: name it in REDIS_SENTINELS instead")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise ConfigurationError(f"{place} leads to a Redis {version}: 6.2 or newer is needed")
    if info.get("cluster_enabled"):
        raise ConfigurationError(
            f"{place} leads to a Redis Cluster, which can't be used: Peekaping's keys are in different slots, and one"
            " script needs them all; use a single Redis, with Sentinel to survive its death"
        )


async def check_rights(redis: Redis, timeout_s: float) -> None:
    """Make sure that the Redis user has every right that a producer needs. Raises as `check_redis` does."""
    async with answered(timeout_s):
        problem = await missing_rights(redis)
    if problem:
        raise ConfigurationError(problem)
