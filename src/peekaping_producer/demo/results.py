"""Writes the results of checks as Peekaping does: heartbeats and the monitor's status (docs/protocol.md, section 4)."""

import sqlite3
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from peekaping_producer.demo.checks import Status, Verdict
from peekaping_producer.demo.clock import database_time

_HEARTBEAT = (
    "INSERT INTO heartbeats (id, monitor_id, status, msg, ping, duration, down_count, retries, important, time,"
    " end_time, notified) VALUES (?, ?, ?, ?, ?, 0, 0, 0, ?, ?, ?, 0)"
)
_STATUS = "UPDATE monitors SET status = ?, updated_at = ? WHERE id = ?"
_BUSY_S = 5.0


class Result(Struct, frozen=True):
    """A finished check."""

    monitor_id: str
    monitor_type: str
    began_ms: int
    ended_ms: int
    verdict: Verdict


class Results:
    """The database file, open for writing. A write blocks the caller for a millisecond or two."""

    def __init__(self, database: Path) -> None:
        """Open the file, which exists."""
        self._connection = sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=_BUSY_S)
        self._connection.execute("PRAGMA synchronous = OFF")
        self._statuses: dict[str, int] = dict(self._connection.execute("SELECT id, status FROM monitors"))

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file."""
        self._connection.close()

    def write(self, results: Sequence[Result]) -> None:
        """Write the results of one batch in one transaction."""
        beats, changes = [], []
        for result in results:
            status, ended = result.verdict.status, database_time(result.ended_ms)
            changed = self._statuses.get(result.monitor_id) != status
            if changed:
                self._statuses[result.monitor_id] = status
                changes.append((int(status), ended, result.monitor_id))
            # For a push monitor the push is the heartbeat; one by the worker would look like another push.
            if result.monitor_type != "push" or status != Status.UP:
                beats.append(
                    (
                        *(str(uuid.uuid4()), result.monitor_id, int(status), result.verdict.text),
                        *(result.verdict.ping_ms, int(changed), database_time(result.began_ms), ended),
                    )
                )
        with self._connection:
            self._connection.executemany(_HEARTBEAT, beats)
            self._connection.executemany(_STATUS, changes)

    def push(self, monitor_id: str, at_ms: int) -> None:
        """Write the heartbeat of a push."""
        at = database_time(at_ms)
        with self._connection:
            self._connection.execute(_HEARTBEAT, (str(uuid.uuid4()), monitor_id, int(Status.UP), "OK", 0, 0, at, at))
