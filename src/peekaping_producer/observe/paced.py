"""Log lines of what happens often: each adds up what happened since the last one."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from peekaping_producer.observe.events import LogEvent


class Paced:
    """Writes the first line at once; what follows within `every_s` becomes one line at the end of that time."""

    def __init__(self, write: Callable[..., object], event: LogEvent, every_s: float) -> None:
        """Write lines named `event`."""
        self._every_s = every_s
        self._write = write
        self._event = event
        self._sums: Counter[str] = Counter()
        self._newest: dict[str, object] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, counts: Mapping[str, int], **newest: object) -> None:
        """Note that it happened: counts are added up; of the other fields, the newest values are written."""
        self._sums.update(counts)
        self._newest = newest
        if self._timer is None:
            self._write_line()

    def _write_line(self) -> None:
        self._timer = None
        if self._sums:
            self._write(self._event, **self._sums, **self._newest)
            self._sums = Counter()
            if self._every_s:
                self._timer = asyncio.get_running_loop().call_later(self._every_s, self._write_line)
