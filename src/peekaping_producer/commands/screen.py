"""Prints `status`: once, line by line, or on a terminal's whole screen."""

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from peekaping_producer.commands.status_text import status_text
from peekaping_producer.errors import Unavailable
from peekaping_producer.json_output import json_line
from peekaping_producer.report.status_values import Status


class Screen:
    """Prints one status after the other."""

    def __init__(self, *, as_json: bool, watch: bool) -> None:
        """Print JSON, one object a line, or text; with `watch` on the whole screen of a terminal."""
        self._as_json = as_json
        self._watch = watch
        self._console = Console(highlight=False)
        self._stack = ExitStack()
        self._live: Live | None = None
        self._last = ""

    def __enter__(self) -> Self:
        """Switch to the terminal's alternate screen, if there is one to watch."""
        if self._watch and self._console.is_terminal and not self._as_json:
            self._live = self._stack.enter_context(Live(console=self._console, auto_refresh=False, screen=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the screen."""
        self._stack.close()

    def show(self, status: Status) -> None:
        """Print a status."""
        if self._as_json:
            self._console.out(json_line(status))
            return
        self._last = status_text(status)
        self._print(self._last)

    def show_unavailable(self, error: Unavailable) -> None:
        """Print that there is no status now; on a screen, above the last one."""
        if self._as_json:
            self._console.out(json_line({"unavailable": str(error)}))
            return
        reason = f"{error}; trying again"
        self._print(f"{reason}\n\nlast status:\n\n{self._last}" if self._live and self._last else reason)

    def _print(self, text: str) -> None:
        if self._live:
            self._live.update(Text(text), refresh=True)
        else:
            self._console.out(text)
