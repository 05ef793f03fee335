"""The worker: a real asynq server in Go, which writes down every task that it takes. None of our code is part of it."""

import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
from msgspec import Struct

from chaos.evidence import Check
from peekaping_producer.demo.redis_server import HOST, killed_with_parent

_STOP_WITHIN_S: Final = 10.0


class _Payload(Struct, frozen=True):
    monitor_id: str = ""
    monitor_name: str = ""
    scheduled_at: datetime | None = None
    which: str = ""
    """Only in tasks that were planted."""


class _Entry(Struct, frozen=True):
    event: str = ""
    id: str = ""
    payload: _Payload | None = None
    parse_error: str = ""
    stale: bool = False
    started_ms: int = 0


class Worker:
    """One asynq server, from `with` to the end of the block."""

    def __init__(self, program: Path, redis_port: int, ledger: Path, *flags: str) -> None:
        """Take what `asynq_peer.build` has built; `flags` are those of its command `serve`."""
        self._command = [str(program), "serve", f"-redis={HOST}:{redis_port}", *flags]
        self._ledger = ledger
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        with self._ledger.open("ab") as out, self._ledger.with_suffix(".log").open("wb") as log:
            self._process = subprocess.Popen(
                killed_with_parent(self._command), stdin=subprocess.PIPE, stdout=out, stderr=log
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ask it to stop; kill it if it takes too long."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.poll() is not None


def read_ledger(ledger: Path) -> tuple[list[Check], list[str]]:
    """Return the tasks that the worker took, and a line for each that it could not read."""
    checks, problems = [], []
    for entry in _entries(ledger):
        if entry.event != "task":
            continue
        payload = entry.payload
        if payload is not None and payload.which:
            # Planted as pending in no list, and put back into the list by a sweep.
            continue
        if entry.parse_error or payload is None or payload.scheduled_at is None or not payload.monitor_id:
            problems.append(
                f"the worker could not read the task {entry.id}: {entry.parse_error or 'fields are missing'}"
            )
            continue
        scheduled_ms = round(payload.scheduled_at.timestamp() * 1000)
        # A task that was withdrawn in a long queue says 1970: workers drop it.
        if scheduled_ms > 0:
            checks.append(
                Check(payload.monitor_id, payload.monitor_name, scheduled_ms, entry.started_ms, stale=entry.stale)
            )
    return checks, problems


def _entries(ledger: Path) -> Sequence[_Entry]:
    text = ledger.read_bytes()
    return msgspec.json.Decoder(_Entry).decode_lines(text[: text.rfind(b"\n") + 1])
