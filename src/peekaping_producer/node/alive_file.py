"""The file in which a node writes when its loops last turned, for `peekaping-producer probe`."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from peekaping_producer.clock import monotonic_s
from peekaping_producer.errors import ConfigurationError


class AliveFile:
    """Written every second while the node is alive."""

    def __init__(self, path: str, on_failure: Callable[[str], None]) -> None:
        """Write it for the first time; later, `on_failure` gets the reason of the first failure in a row.

        Raises ConfigurationError if it cannot be written.
        """
        self._path = path
        self._on_failure = on_failure
        self._failing = False
        try:
            self._write()
        except OSError as error:
            raise ConfigurationError(f"PRODUCER_ALIVE_FILE '{path}' can't be written: {error.strerror}") from None

    def write(self) -> None:
        """Write that the loops have turned now."""
        try:
            self._write()
        except OSError as error:
            if not self._failing:
                self._on_failure(str(error.strerror))
            self._failing = True
        else:
            self._failing = False

    def remove(self) -> None:
        """Remove it at the end."""
        with suppress(OSError):
            Path(self._path).unlink()

    def _write(self) -> None:
        """Write in place, always the same number of bytes: no reader may find half a number. A FIFO must not block."""
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        try:
            os.write(file, f"{monotonic_s():020.3f}\n".encode())
        finally:
            os.close(file)


def turned_ago_s(path: Path) -> float:
    """Return how long ago the loops turned, in seconds.

    The clock is never stepped; after a restart of the host the result may be negative. Raises OSError if the file
    cannot be read, ValueError if it is not one of these.
    """
    return monotonic_s() - float(path.read_text(encoding="ascii"))
