"""Writes log lines in its own thread: a pipe that nobody reads blocks that thread, never the checks."""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TextIO

MOST_WAITING = 10_000
"""The most lines that wait to be written; once there are more, lines are dropped until half of them are written."""
_BATCH = 100
_CHUNK_BYTES = 4096
"""A pipe accepts this much completely or not at all."""
_PROGRESS_WITHIN_S = 0.5
"""At the end, a reader that has read nothing for this long is no longer waited for."""
_CLOSED_WITHIN_S = 5.0
_RETRY_S = 0.1
"""After a write failed, for example because the disk is full."""


class LogWriter:
    """A bounded queue of lines for a file descriptor. Never raises if the descriptor refuses them."""

    def __init__(self, stream: TextIO | None, most_waiting: int = MOST_WAITING) -> None:
        """Write to the descriptor of a stream, in its encoding; None drops all lines."""
        self.on_dropped: Callable[[int], object] = lambda _count: None
        """Called with the number of dropped lines once lines are written again.

        So the log says where they are missing.
        """
        self._fd = _descriptor(stream)
        self._encoding, self._errors = (stream.encoding, stream.errors or "strict") if stream else ("utf-8", "strict")
        self._is_terminal = self._fd is not None and os.isatty(self._fd)
        self._most_waiting = most_waiting
        self._lines: deque[bytes] = deque()
        self._changed = threading.Condition(threading.RLock())
        self._dropping = False
        self._dropped = 0
        self._closing = False
        self._written = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self._is_terminal

    def write(self, text: str) -> None:
        """Queue a line, or drop it. Raises UnicodeEncodeError if the stream's encoding lacks a character."""
        line = text.encode(self._encoding, self._errors)
        with self._changed:
            if self._fd is None:
                return
            if self._dropping and len(self._lines) > self._most_waiting // 2:
                self._dropped += 1
                return
            self._report()
            if len(self._lines) >= self._most_waiting:
                self._dropping = True
                self._dropped += 1
            else:
                self._lines.append(line)
                self._changed.notify()

    def flush(self) -> None:
        """Do nothing: queued lines are written soon."""

    def close(self) -> None:
        """Write the queued lines, for as long as somebody reads them, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        written, now_s = -1, time.monotonic()
        give_up_s = progress_until_s = now_s + _CLOSED_WITHIN_S
        while self._thread.is_alive() and now_s < min(give_up_s, progress_until_s):
            if written != self._written:
                written, progress_until_s = self._written, now_s + _PROGRESS_WITHIN_S
            self._thread.join(0.02)
            now_s = time.monotonic()

    def _report(self) -> None:
        """Report how many lines are missing here."""
        self._dropping = False
        count, self._dropped = self._dropped, 0
        if count:
            self.on_dropped(count)

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._dropped and not self._lines:
                    self._report()
                while not self._lines and not self._closing:
                    self._changed.wait()
                batch = list(islice(self._lines, _BATCH))
            if not batch:
                return
            written = self._put(b"".join(batch))
            with self._changed:
                for _ in batch:
                    self._lines.popleft()
                if written:
                    continue
                self._dropped += len(batch)
                if self._closing:
                    return
            time.sleep(_RETRY_S)

    def _put(self, data: bytes) -> bool:
        """Write these bytes, however long it takes; return whether that succeeded."""
        view = memoryview(data)
        while view and self._fd is not None:
            try:
                count = os.write(self._fd, view[:_CHUNK_BYTES])
            except BlockingIOError:
                select.select([], [self._fd], [], 1.0)
            except BrokenPipeError:
                self._give_up()
            except OSError:
                return False
            else:
                self._written += count
                view = view[count:]
        return True

    def _give_up(self) -> None:
        """Drop all lines from now on: the reader has closed the pipe."""
        with self._changed:
            self._fd = None


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return stream.fileno() if stream else None
    except (OSError, ValueError):  # it has no descriptor, or is closed
        return None
