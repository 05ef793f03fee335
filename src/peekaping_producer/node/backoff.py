"""Growing delays between retries, with jitter."""

import random


class Backoff:
    """Delays that double from `first_s` to `cap_s`, each shortened at random by up to half to spread the nodes."""

    def __init__(self, first_s: float, cap_s: float) -> None:
        """Start at `first_s`."""
        self._first_s = first_s
        self._cap_s = cap_s
        self._next_s = first_s

    def reset(self) -> None:
        """Start again with the first delay."""
        self._next_s = self._first_s

    def next_delay_s(self) -> float:
        """Return the next delay."""
        delay_s = self._next_s
        self._next_s = min(self._cap_s, delay_s * 2)
        return delay_s * random.uniform(0.5, 1)  # noqa: S311 - jitter, no secret
