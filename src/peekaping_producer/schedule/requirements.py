"""What Redis refuses at the start and only a person can fix, in a line that says how."""

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from peekaping_producer.asynq import keys as asynq
from peekaping_producer.schedule.advice import code_of
from peekaping_producer.schedule.keys import DUE, INVALID, LEADER, NODE, SIGNALS

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
"""Commands of the producer, each so that it changes nothing: Redis judges rights before it looks at the rest."""


def problem_of(error: RedisError) -> str | None:
    """Return the line for an operator, None where the refusal can pass by itself."""
    said = " ".join(str(error).split())
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
    """Try what the producer needs, changing nothing; return the line for an operator where the user may not do it all.

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
    said = " ".join(str(next(iter(refused.values()))).split())
    return f"the Redis user lacks the right to {', '.join(refused)}, grant it by ACL: {said}"
