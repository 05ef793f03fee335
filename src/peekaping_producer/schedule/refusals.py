"""What Redis refuses at the start and only a person can fix, in a line that says how."""

from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError, ResponseError

_NO_SUCH_DATABASE = "DB index is out of range"
_UNKNOWN_COMMAND = "unknown command"
"""Redis has no code for either."""


def problem_of(error: RedisError) -> str | None:
    """Return the line for an operator, None where the refusal can pass by itself."""
    said = " ".join(str(error).split())
    if isinstance(error, AuthenticationError | AuthorizationError):
        if said.startswith("NOAUTH"):
            return "Redis at REDIS_HOST needs a password and REDIS_PASSWORD is not set: set it"
        return f"REDIS_PASSWORD is refused by Redis at REDIS_HOST, set the right one: {said}"
    if isinstance(error, NoPermissionError):
        return f"the Redis user lacks a right, grant it by ACL: {said}"
    if isinstance(error, ResponseError) and _NO_SUCH_DATABASE in said:
        return "REDIS_DB is beyond the databases that Redis at REDIS_HOST has: choose a lower one, or raise `databases`"
    if isinstance(error, ResponseError) and _UNKNOWN_COMMAND in said:
        return f"Redis at REDIS_HOST lacks a command, 6.2 or newer is needed: {said}"
    return None
