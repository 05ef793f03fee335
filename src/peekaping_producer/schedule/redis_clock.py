"""Redis' clock as one node sees it, compared with this host's own, which nobody steps."""

from msgspec import Struct

STEP_MS = 1_000
"""If the clocks have diverged by more than this since the last claim, Redis' was stepped."""

_ALLOWANCE_MS = 50
"""A request is assumed to be executed within this time; what is due later is left to the next claim."""


class Step(Struct, frozen=True):
    """A step of Redis' clock."""

    at_ms: int
    """The last instant seen before it, by the clock as it is now, Unix ms."""
    by_ms: int
    """How far it went, negative if back."""


class RedisClock:
    """Compares the two clocks from claim to claim (invariant 8).

    A script ran at some instant between request and reply. The conclusions hold whichever instant it was, so neither a
    slow network nor a suspended process is taken for a step.
    """

    def __init__(self) -> None:
        """Begin without a claim to compare with."""
        self._seen: tuple[int, float, float] | None = None

    def horizon_ms(self, sent_s: float) -> int | None:
        """Return the latest instant that a claim sent now may reach if Redis' clock was not stepped; None at first."""
        if self._seen is None:
            return None
        seen_ms, seen_sent_s, _ = self._seen
        return seen_ms + int((sent_s - seen_sent_s) * 1000) + _ALLOWANCE_MS

    def see(self, now_ms: int, sent_s: float, answered_s: float) -> Step | None:
        """Note what a claim's script saw, and when it was sent and answered; return a step since the last claim."""
        before, self._seen = self._seen, (now_ms, sent_s, answered_s)
        if before is None:
            return None
        seen_ms, seen_sent_s, seen_answered_s = before
        shortest_ms = int((sent_s - seen_answered_s) * 1000)
        longest_ms = int((answered_s - seen_sent_s) * 1000)
        by_ms = now_ms - seen_ms - min(max(now_ms - seen_ms, shortest_ms), longest_ms)
        return Step(seen_ms + by_ms, by_ms) if abs(by_ms) > STEP_MS else None
