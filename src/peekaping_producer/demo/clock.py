"""The wall clock, for the demo's worker: asynq's leases and heartbeat keys use the workers' own clocks."""

import time
from datetime import UTC, datetime


def now_ms() -> int:
    """Return the Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def database_time(unix_ms: int) -> str:
    """Return an instant as Peekaping writes it to SQLite: UTC, no trailing zeros (docs/protocol.md, section 4)."""
    instant = datetime.fromtimestamp(unix_ms // 1000, UTC).replace(microsecond=unix_ms % 1000 * 1000, tzinfo=None)
    text = instant.isoformat(" ")
    return f"{text.rstrip('0') if '.' in text else text}+00:00"
