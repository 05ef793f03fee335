"""The health check as a worker reads it from a task (docs/protocol.md, section 2)."""

from datetime import datetime

import msgspec
from msgspec import Struct

STALE_AFTER_INTERVALS = 1.5
"""A worker drops a task whose `scheduled_at` is older than this."""


class LastHeartbeat(Struct, frozen=True):
    """What a push monitor's verdict needs of its newest heartbeat."""

    status: int = 0
    time: datetime | None = None


class Check(Struct, frozen=True):
    """One check to run."""

    monitor_id: str = ""
    monitor_name: str = ""
    monitor_type: str = ""
    interval: int = 0
    """Seconds."""
    timeout: int = 0
    """Seconds."""
    config: str = ""
    scheduled_at: datetime | None = None
    last_heartbeat: LastHeartbeat | None = None
    is_under_maintenance: bool = False

    @property
    def scheduled_ms(self) -> int:
        """`scheduled_at` in Unix milliseconds; 0 if it is missing."""
        return round(self.scheduled_at.timestamp() * 1000) if self.scheduled_at else 0

    def is_stale(self, now_ms: int) -> bool:
        """Return whether it is too old to be worth a result."""
        return now_ms - self.scheduled_ms > STALE_AFTER_INTERVALS * self.interval * 1000


_decoder = msgspec.json.Decoder(Check)


def read_check(payload: bytes) -> Check:
    """Read a task's payload; raises ValueError where a worker would archive the task."""
    check = _decoder.decode(payload)
    if check.scheduled_at and check.scheduled_at.tzinfo is None:
        raise ValueError("scheduled_at has no zone")
    if not check.monitor_type:
        raise ValueError("monitor_type is missing")
    return check
