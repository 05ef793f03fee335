"""A Redis whose clock a test sets, steps or stops, by libfaketime (apt) preloaded into the server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from peekaping_producer.demo.redis_server import RedisServer

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


class RedisClock:
    """The clock of one server; it runs true until it is changed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.step(0)

    def step(self, seconds: float) -> None:
        """From now on, run this far ahead of the true time, or behind it."""
        self._write(f"{seconds:+f}")

    def stop_at(self, unix_s: int) -> None:
        """Stand still at the beginning of a second, until the next change."""
        self._write(f"@{unix_s}", running=False)

    def stand_at_ms(self, unix_ms: int) -> None:
        """Stand still at an instant from 2001 to 2286, until the next change.

        The server keeps what it has read for up to a millisecond, so wait until it shows the new time.
        """
        # In place and always as long, so that a reader never sees a part of it. The fraction is rounded down, and the
        # server adds up to 999 µs: half a microsecond keeps it within this millisecond.
        with self._file.open("r+b", buffering=0) as file:
            file.write(f"{unix_ms // 1000:010}.{unix_ms % 1000:03}0005".encode())

    def _write(self, text: str, *, running: bool = True) -> None:
        other = self._file.with_suffix(".new")
        other.write_text(text if running else text.removeprefix("@"))
        other.rename(self._file)


@contextmanager
def redis_with_clock(folder: Path) -> Iterator[tuple[RedisServer, RedisClock]]:
    """Start a server with a clock of its own for the duration of the block. Skips the test without libfaketime."""
    if LIBRARY is None:
        if os.environ.get("CI"):
            pytest.fail("libfaketime is missing: apt-get install libfaketime")
        pytest.skip("libfaketime is missing: apt-get install libfaketime")
    file = folder / "clock"
    clock = RedisClock(file)
    preload = {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FMT": "%s",
        "TZ": "UTC",
    }
    server = RedisServer(tcp=True)
    with patch.dict(os.environ, preload):
        server.start()
    try:
        yield server, clock
    finally:
        server.stop()
