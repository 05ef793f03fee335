"""Child processes of the demo: in its folder, with a minimal environment, and killed with the demo."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import peekaping_producer
from peekaping_producer.demo.redis_server import killed_with_parent

_KEPT = ("PATH", "LANG", "LC_ALL", "HOME")
"""The variables that a child inherits: none that names a Redis, a database or a proxy."""
_STOP_WITHIN_S = 8.0


class Child:
    """One Python process. Start it from the main thread: on Linux it ends with the thread that starts it."""

    def __init__(self, arguments: Sequence[str], folder: Path, log: str, variables: Mapping[str, str]) -> None:
        """Start `python ARGUMENTS` in `folder`; its output goes to the file `log` there."""
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {"PYTHONPATH": str(Path(peekaping_producer.__file__).parents[1]), "TZ": "UTC", **variables}
        self.log = folder / log
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                killed_with_parent([sys.executable, *arguments]),
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C in the terminal must not reach the child; the demo stops it.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if not self.ended:
            self._process.terminate()

    def stop(self) -> None:
        """Ask it to stop and wait; kill it if it takes too long."""
        self.ask_to_stop()
        try:
            self._process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def last_lines(self, lines: int = 5) -> list[str]:
        """Return the end of its output."""
        return self.log.read_text(errors="replace").splitlines()[-lines:]
