"""The only module outside the demo that reads the wall clock, and how instants are written.

Redis' clock decides, inside the scripts (invariant 8). This host's wall clock only dates log lines, and gives the
sweep a hint which monitors are new.
"""

import time
from datetime import UTC, datetime, timedelta

_STEADY: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZERO_TIME = "0001-01-01T00:00:00Z"
"""Go's zero time, written for NULL (docs/protocol.md, section 2)."""


def now_utc() -> datetime:
    """Return this host's wall clock: for hints and log lines, never for a decision."""
    return datetime.now(UTC)


def monotonic_s() -> float:
    """Return a clock of this host that is never stepped; on Linux it also counts while the host sleeps."""
    return time.clock_gettime(_STEADY)


def unix_ns(at_s: float) -> int:
    """Return an instant of the monotonic clock as Unix time in nanoseconds, by this host's wall clock."""
    return time.time_ns() - round((time.monotonic() - at_s) * 1e9)


def from_unix_ms(unix_ms: int) -> datetime:
    """Return the instant as an aware UTC datetime."""
    return _EPOCH + timedelta(milliseconds=unix_ms)


def rfc3339(instant: datetime) -> str:
    """Return an aware UTC instant as Go writes it, `Z` and no trailing zeros (docs/protocol.md, section 2)."""
    text = instant.replace(tzinfo=None).isoformat()
    return f"{text.rstrip('0') if '.' in text else text}Z"
