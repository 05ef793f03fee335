"""Where `status` prints: once, line after line, or on a terminal's whole screen."""

from contextlib import ExitStack
from types import TracebackType
from typing import Self

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from peekaping_producer.commands.status_text import status_text
from peekaping_producer.commands.status_values import Status
from peekaping_producer.errors import Unavailable


class Screen:
    """Shows one status after the other."""

    def __init__(self, *, as_json: bool, watch: bool) -> None:
        """Take how to print: one JSON object a line, or text; and whether the text is watched."""
        self._as_json = as_json
        self._watch = watch
        self._console = Console(highlight=False)
        self._stack = ExitStack()
        self._live: Live | None = None
        self._last = ""

    def __enter__(self) -> Self:
        """Take the terminal's screen, where one is watched."""
        if self._watch and self._console.is_terminal and not self._as_json:
            self._live = self._stack.enter_context(Live(console=self._console, auto_refresh=False, screen=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the screen back."""
        self._stack.close()

    def show(self, status: Status) -> None:
        """Show it."""
        if self._as_json:
            self._console.out(msgspec.json.encode(status).decode())
            return
        self._last = status_text(status)
        self._print(self._last)

    def say_unavailable(self, error: Unavailable) -> None:
        """Say that there is no status now, above the last one where the screen has room for it."""
        if self._as_json:
            self._console.out(msgspec.json.encode({"unavailable": str(error)}).decode())
            return
        reason = f"{error}; trying again"
        self._print(f"{reason}\n\nas it was before:\n\n{self._last}" if self._live and self._last else reason)

    def _print(self, text: str) -> None:
        if self._live:
            self._live.update(Text(text), refresh=True)
        else:
            self._console.out(text)
