"""Failures of Redis that only a person can fix, each in one line that says how."""

from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as ConnectTimeout

from peekaping_producer.config.addresses import Address
from peekaping_producer.config.redis_settings import RedisSettings
from peekaping_producer.config.secret import Secret
from peekaping_producer.errors import Unavailable, one_line
from peekaping_producer.redisdb.replies import code_of
from peekaping_producer.redisdb.sentinels import NoPrimary
from peekaping_producer.redisdb.tls import tls_of, tls_problem
from peekaping_producer.tls.probe import answers_without_tls, speaks_tls, tls_refusal

_NO_SUCH_DATABASE = "DB index is out of range"
_UNKNOWN_COMMAND = "unknown command"
"""Redis has no code for either."""
_HUNG_UP = (ConnectionLost, InvalidResponse)
"""What redis-py raises if a server closes the connection, or speaks another protocol."""


async def for_operator(error: Unavailable, settings: RedisSettings) -> str | None:
    """Return the line for an operator if only a person can fix the cause of an error."""
    cause = error.__cause__
    if isinstance(cause, NoPrimary):
        problems = [
            _sentinel_problem(refusal, sentinel, settings) or await _tls_mismatch(refusal, sentinel, settings)
            for sentinel, refusal in cause.refusals.items()
        ]
        return problems[0] if all(problems) else None
    problem = _redis_problem(cause, settings) if isinstance(cause, RedisError) else None
    if problem or settings.redis_sentinels or settings.redis_host.startswith("/"):
        return problem
    return await _tls_mismatch(cause, Address(settings.redis_host, settings.redis_port), settings)


def _redis_problem(error: RedisError, settings: RedisSettings) -> str | None:
    said, server = one_line(error), f"Redis at {settings.redis_place}"
    match code_of(error):
        case "NOAUTH" | "WRONGPASS":
            return _login_problem("REDIS_PASSWORD", settings.redis_password, server, said)
        case "NOPERM":
            return f"the Redis user lacks a right, grant it by ACL: {said}"
    if _NO_SUCH_DATABASE in said:
        return f"REDIS_DB is beyond the databases that {server} has: choose a lower one, or raise `databases`"
    if _UNKNOWN_COMMAND in said:
        return f"{server} lacks a command, 6.2 or newer is needed: {said}"
    return tls_problem(error, server, settings)


def _sentinel_problem(refusal: Exception | None, sentinel: Address, settings: RedisSettings) -> str | None:
    if refusal is None:
        name = settings.redis_sentinel_master
        return f"REDIS_SENTINEL_MASTER is {name!r}, and no sentinel knows it: set the right one"
    said, server = one_line(refusal), f"the sentinel {sentinel}"
    match code_of(refusal):
        case "NOAUTH" | "WRONGPASS":
            return _login_problem("REDIS_SENTINEL_PASSWORD", settings.redis_sentinel_password, server, said)
        case "NOPERM":
            return f"the user at the sentinels lacks a right, grant it by ACL: {said}"
    if _UNKNOWN_COMMAND in said:
        default = "sentinels use port 26379 unless configured otherwise"
        return f"REDIS_SENTINELS names {sentinel}, which is not a sentinel; {default}"
    return tls_problem(refusal, server, settings)


def _login_problem(variable: str, password: Secret | None, server: str, said: str) -> str:
    if password is None:
        return f"{variable} is not set, and {server} requires a password: set it"
    return f"{password.variable} is refused by {server}, set the right one: {said}"


async def _tls_mismatch(cause: BaseException | None, server: Address, settings: RedisSettings) -> str | None:
    """Return the line for an operator if a connection failed because one side does without TLS or a certificate."""
    context = tls_of(settings)
    if isinstance(cause, TimeoutError | ConnectTimeout):
        if context and await answers_without_tls(server.host, server.port, b"PING\r\n"):
            return f"REDIS_TLS is on, and {server} does not speak TLS: set it to off, or name a port with TLS"
    elif type(cause) in _HUNG_UP:
        if context:
            name = settings.redis_tls_server_name or server.host
            refusal = await tls_refusal(server.host, server.port, context, name)
            return tls_problem(refusal, str(server), settings)
        if await speaks_tls(server.host, server.port):
            return f"{server} speaks TLS only: set REDIS_TLS=on"
    return None
