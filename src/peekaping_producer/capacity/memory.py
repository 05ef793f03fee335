"""Whether Redis' memory can hold a task for every monitor, as it must when no worker takes any. Pure."""

from functools import cache

from peekaping_producer.capacity.costs import shipped
from peekaping_producer.redisdb.memory import Memory

_MB = 1e6


def shortage(memory: Memory, monitors: int, tasks: int) -> str | None:
    """Say how much memory is missing for this many scheduled monitors, with `tasks` in the queue; None if all fit."""
    if not memory.limit_bytes:
        return None
    free, needed = memory.limit_bytes - memory.used_bytes, max(0, monitors - tasks) * _task_bytes()
    if needed <= free:
        return None
    left = f"Redis has {max(0, free) / _MB:,.0f} MB left below maxmemory"
    return f"{left}; one waiting check for each of {monitors:,} monitors would take {needed / _MB:,.0f} MB more"


@cache
def _task_bytes() -> int:
    return shipped().redis_bytes_pending
