"""Redis' memory: how much it takes, its limit, and what it does at the limit."""

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from peekaping_producer.redisdb.client import answered

KEEPS_ALL = "noeviction"
"""The policy that deletes nothing: a full Redis refuses writes instead, which counts as an outage."""


class Memory(Struct, frozen=True):
    """What Redis says of its memory."""

    used_bytes: int
    limit_bytes: int
    """`maxmemory`; 0 if none is set."""
    policy: str | None
    """`maxmemory-policy`; null if Redis does not show it."""

    def risk(self) -> str | None:
        """Return what the policy puts at risk, in words; None if it deletes nothing, or is not known."""
        if self.policy in {KEEPS_ALL, None}:
            return None
        return f"maxmemory-policy is {self.policy}: a full Redis may delete the schedule"


async def read_memory(redis: Redis, timeout_s: float) -> Memory | None:
    """Read it; None if this user may not. Raises Unavailable if Redis does not answer in time."""
    async with answered(timeout_s):
        try:
            info = await redis.info("memory")
        except ResponseError:
            return None
    return memory_of(info)


def memory_of(info: dict[str, object]) -> Memory:
    """Return what is in a reply to INFO."""
    policy = info.get("maxmemory_policy")
    used, limit = (info.get(name) for name in ("used_memory", "maxmemory"))
    return Memory(
        used if isinstance(used, int) else 0, limit if isinstance(limit, int) else 0, str(policy) if policy else None
    )
