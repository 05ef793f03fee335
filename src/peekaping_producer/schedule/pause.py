"""A pause of all checks: while its key is in Redis, no node claims anything."""

import re
from collections.abc import Sequence
from typing import Final, cast

from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.redisdb.client import answered, load_script
from peekaping_producer.redisdb.keys import PAUSE, SIGNALS

LONGEST_REASON: Final = 200
"""Characters."""
FIELDS: Final = ("since_ms", "until_ms", "reason", "by")
"""What the key holds."""
_LONGEST_MS: Final = 86_400_000
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000}


class Pause(Struct, frozen=True):
    """A pause in force."""

    since_ms: int
    """When it began, Unix ms by Redis' clock."""
    until_ms: int
    """When it ends by itself."""
    reason: str
    by: str
    """Who began it, or last set its end."""


class Pauses:
    """Begins and ends pauses. Every method raises Unavailable if Redis does not answer in time."""

    def __init__(self, redis: Redis, timeout_s: float) -> None:
        """Take the client."""
        self._timeout_s = timeout_s
        self._pause = load_script(redis, __package__, "time", "paused", "pause")
        self._resume = load_script(redis, __package__, "time", "paused", "resume")

    async def begin(self, for_ms: int, reason: str, by: str) -> tuple[Pause, Pause | None]:
        """Pause all checks from now on; return the pause, and the one that it replaces."""
        async with answered(self._timeout_s):
            reply = await self._pause(keys=(PAUSE,), args=(for_ms, reason, by, SIGNALS))
        pause, before = (pause_of(part) for part in cast("list[list[bytes | None]]", reply))
        return cast("Pause", pause), before

    async def end(self) -> Pause | None:
        """End the pause, and wake all nodes; return the pause, None if there was none."""
        async with answered(self._timeout_s):
            return pause_of(cast("list[bytes | None]", await self._resume(keys=(PAUSE,), args=(SIGNALS,))))


def pause_of(reply: Sequence[bytes | None], now_ms: int = 0) -> Pause | None:
    """Return the pause with these fields; None if there are none, or if it is over by `now_ms`."""
    since, until, reason, by = reply or (None,) * len(FIELDS)
    if not (until and until.isdigit() and int(until) > now_ms):
        return None
    return Pause(int(since) if since and since.isdigit() else 0, int(until), _text(reason), _text(by))


def length_ms(text: str) -> int:
    """Return how long a pause is to last. Raises ValueError, in words, for anything but the forms that are allowed."""
    match = re.fullmatch(r"([0-9]{1,6})([smh])", text.strip())
    length = int(match[1]) * _UNITS_MS[match[2]] if match else 0
    if not 0 < length <= _LONGEST_MS:
        raise ValueError(f"{text[:20]!r} is not a valid length: write for example 90s, 10m or 2h, at most 24h")
    return length


def reason_from(text: str) -> str:
    """Return a reason as it is shown. Raises ValueError, in words, if there is none, or a very long one."""
    reason = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    if not 0 < len(reason) <= LONGEST_REASON:
        raise ValueError(f"the reason must have 1 to {LONGEST_REASON} characters")
    return reason


def _text(part: bytes | None) -> str:
    return (part or b"").decode(errors="replace")
