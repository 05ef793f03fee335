"""The log of code that runs in this process, as parsed lines to read and wait for."""

import io
import json
from typing import Any

from peekaping_producer.config.settings import LogLevel, Mode
from peekaping_producer.observe.log import make_logger
from support.waiting import until

Line = dict[str, Any]
"""One parsed log line."""


class CapturedLog:
    """A logger, and every line that it has written."""

    def __init__(self, service: str = "test") -> None:
        self._stream = io.StringIO()
        self.log = make_logger(Mode.PROD, LogLevel.DEBUG, service, self._stream)

    @property
    def lines(self) -> list[Line]:
        """All lines logged so far."""
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    def logged(self, event: str) -> list[Line]:
        """Return the lines of one event."""
        return [line for line in self.lines if line["event"] == event]

    async def until_logged(self, event: str, times: int = 1) -> Line:
        """Wait until an event has been logged this often; return its last line."""
        await until(lambda: len(self.logged(event)) >= times, lambda: f"{times} × {event!r}; log: {self.lines}")
        return self.logged(event)[times - 1]
