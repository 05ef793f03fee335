"""How late the event loop is: the time by which a timer that fires ten times a second was late."""

import time
from collections import deque

from peekaping_producer.node.stop import Stop

_EVERY_S = 0.1
_REMEMBERED = 600


class LoopLag:
    """The lag of the last minute."""

    def __init__(self) -> None:
        """Begin as if the loop had just turned."""
        self.turned_at_s = time.monotonic()
        """When the timer fired last, by the monotonic clock."""
        self._lags_s: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def longest_s(self) -> float:
        """The longest lag of the last minute."""
        return max(self._lags_s, default=0.0)

    async def loop(self, stop: Stop) -> None:
        """Measure until it is time to stop."""
        while not stop:
            due_s = time.monotonic() + _EVERY_S
            await stop.within(_EVERY_S)
            self.turned_at_s = time.monotonic()
            self._lags_s.append(max(0.0, self.turned_at_s - due_s))
