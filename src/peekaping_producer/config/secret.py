"""A secret, such as a password: its text, or a file that is read again for each new connection."""

import stat
from collections.abc import Callable
from pathlib import Path


class SecretUnreadable(OSError):
    """The file of a secret cannot be used now. Says which and why, in one line."""


class Secret:
    """A string that nothing shows: not its repr, and no encoder of values."""

    def __init__(self, variable: str, read: Callable[[], str]) -> None:
        """Take the variable that the secret comes from, for errors, and a function that returns it."""
        self.variable = variable
        self._read = read

    @classmethod
    def of_text(cls, variable: str, text: str) -> "Secret":
        """Return the secret that a variable holds itself."""
        return cls(variable, lambda: text)

    @classmethod
    def of_file(cls, variable: str, path: Path) -> "Secret":
        """Return the secret in the file that a variable names."""
        return cls(variable, lambda: _text_of(variable, path))

    def reveal(self) -> str:
        """Return the text; a file is read for each call. Raises SecretUnreadable."""
        return self._read()

    def __repr__(self) -> str:
        """Mask the text."""
        return "***"


def _text_of(variable: str, path: Path) -> str:
    """Return a file's text without a trailing newline."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            reason = "it is not a regular file"
        elif text := path.read_text("utf-8-sig").removesuffix("\n").removesuffix("\r"):
            if "\0" not in text:
                return text
            reason = "it holds a NUL byte"
        else:
            reason = "it is empty"
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    raise SecretUnreadable(f"{variable} is {str(path)!r}, which can't be used: {reason}")
