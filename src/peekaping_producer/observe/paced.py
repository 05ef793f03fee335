"""Log lines of what happens often: each adds up what happened since the last."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping


class Paced:
    """Writes the first at once, and what follows within `every_s` of a line as one line at the end of it."""

    def __init__(self, write: Callable[..., object], event: str, every_s: float) -> None:
        """Write lines named `event`."""
        self._every_s = every_s
        self._write = write
        self._event = event
        self._sums: Counter[str] = Counter()
        self._newest: dict[str, object] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, counts: Mapping[str, int], **newest: object) -> None:
        """Note that it happened: the counts are added up, of other fields the newest are written."""
        self._sums.update(counts)
        self._newest = newest
        if self._timer is None:
            self._line()

    def _line(self) -> None:
        self._timer = None
        if self._sums:
            self._write(self._event, **self._sums, **self._newest)
            self._sums = Counter()
            if self._every_s:
                self._timer = asyncio.get_running_loop().call_later(self._every_s, self._line)
