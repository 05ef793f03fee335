"""What `--break` does to the running demo, and when."""

from enum import StrEnum

from msgspec import Struct

PLANTED = 3
"""Monitors that get an archived task."""
_CYCLE_S = 90.0
"""A run without an end repeats all of it after this."""


class Breakage(StrEnum):
    """One way to break something; the value is its text in the table."""

    WORKER = "worker killed while it runs checks"
    PLANT = "archived tasks planted"
    NODE = "producer killed (SIGKILL)"
    FLUSH = "Redis flushed"


_ORDER = ((0.1, Breakage.WORKER), (0.2, Breakage.PLANT), (0.3, Breakage.NODE), (0.45, Breakage.FLUSH))
"""The part of the run after which each comes."""


class Event(Struct, frozen=True):
    """What was done, and to which monitors."""

    at_ms: int
    at_s: float
    """Since the demo began."""
    breakage: Breakage
    monitor_ids: tuple[str, ...]
    blocked_ids: tuple[str, ...] = ()
    """Monitors whose task id has been blocked since then by a task that no worker runs."""


class Restart(Struct, frozen=True):
    """What was started again after it had been killed."""

    at_s: float
    """Since the demo began."""
    what: str


class Plan:
    """Which breakage comes next."""

    def __init__(self, seconds: float | None) -> None:
        """Spread them over a run of `seconds`, or over rounds of 90 s if it has no end."""
        self._cycle_s = seconds or _CYCLE_S
        self._rounds = 1 if seconds else None
        self._done = 0

    def due(self, elapsed_s: float) -> Breakage | None:
        """Return what to break now, or None. The caller calls `advance` once it is done."""
        turn, place = divmod(self._done, len(_ORDER))
        if self._rounds is not None and turn >= self._rounds:
            return None
        part, breakage = _ORDER[place]
        return breakage if elapsed_s >= (turn + part) * self._cycle_s else None

    def advance(self) -> None:
        """Move on to the next."""
        self._done += 1

    def __str__(self) -> str:
        """Return the plan in one line."""
        return ", ".join(f"{breakage} at {part * self._cycle_s:.0f} s" for part, breakage in _ORDER)
