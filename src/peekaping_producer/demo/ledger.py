"""The worker's ledger: one line for each task that it takes, and one for each that it finishes. The demo reads it.

Each worker process writes its own file, so a line that was cut off when its worker was killed is always the last one.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

Outcome = Literal["down", "up", "pending", "maintenance", "dropped", "failed"]


class Taken(Struct, frozen=True, array_like=True, tag="taken"):
    """A worker took a task."""

    monitor_id: str
    scheduled_ms: int
    taken_ms: int


class Finished(Struct, frozen=True, array_like=True, tag="finished"):
    """A worker finished a task."""

    monitor_id: str
    scheduled_ms: int
    finished_ms: int
    outcome: Outcome
    ping_ms: int
    text: str


Entry = Taken | Finished

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)


class LedgerWriter:
    """Appends to a ledger."""

    def __init__(self, path: Path) -> None:
        """Create the file."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o600)

    def write(self, entries: Iterable[Entry]) -> None:
        """Append the entries. Once this returns they are in the file, even if the process is killed."""
        text = memoryview(_encoder.encode_lines(list(entries)))
        while text:
            text = text[os.write(self._file, text) :]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class LedgerReader:
    """Reads all ledgers of a folder as they grow."""

    def __init__(self, folder: Path) -> None:
        """Read `*.ledger` in `folder`, from their beginnings."""
        self._folder = folder
        self._offsets: dict[Path, int] = {}

    def new_entries(self) -> Iterator[Sequence[Entry]]:
        """Yield what was added since the last call, file by file; an incomplete last line is left for later."""
        for path in sorted(self._folder.glob("*.ledger")):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._offsets[path] = self._offsets.get(path, 0) + len(whole)
            if whole:
                yield _decoder.decode_lines(whole)
