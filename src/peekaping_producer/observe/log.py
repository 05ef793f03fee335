"""Log lines: events with constant names and fields, each with `time`, `level`, `event` and `svc`.

No line ever raises: a value that can't be written is written in another way, and a line that nobody reads is dropped.
"""

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from peekaping_producer.clock import now_utc
from peekaping_producer.config import LogLevel, Mode

Logger = FilteringBoundLogger
"""What every part of the Producer logs to; handed down from `app`, never global."""

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}
_HEAD = ("time", "level", "event", "svc")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_NOT_IN_ONE_LINE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
"""Controls, other line ends, and halves of characters, which UTF-8 has no form for."""


def make_logger(mode: Mode, level: LogLevel, service_name: str, stream: TextIO | None = None) -> Logger:
    """Return a logger that writes to `stream` (default: standard output) in the form `mode` asks for."""
    # Python has no standard output when the process was started with it closed.
    target: TextIO | None = stream or sys.stdout
    logger: Logger = structlog.wrap_logger(
        _LineWriter(target),
        processors=[structlog.processors.add_log_level, _add_time, *_renderers(mode, target)],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        context_class=dict,
        cache_logger_on_first_use=True,
        svc=service_name,
    )
    return logger.bind()


@contextmanager
def capture_stdlib_logging(logger: Logger) -> Iterator[None]:
    """Write the libraries' own warnings and errors as lines of ours while inside."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = [_ToStructlog(logger)]
    # setLevel, not the attribute: only it forgets what loggers have cached.
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers[:] = before
        root.setLevel(level)


class _LineWriter:
    """Writes lines, and drops them once nobody reads: a closed pipe must not end the checks."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        if self._stream is None:
            return
        try:
            try:
                self._stream.write(f"{line}\n")
            except UnicodeEncodeError:
                self._stream.write(f"{_NOT_ASCII.sub(_escaped, line)}\n")
            self._stream.flush()
        except BrokenPipeError:
            self._give_up(self._stream)
        except (OSError, ValueError):
            pass  # there is nowhere left to say it

    def _give_up(self, stream: TextIO) -> None:
        """Lead the stream nowhere: Python flushes what is left in it at the end, and would exit with code 120."""
        self._stream = None
        with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())

    debug = info = warning = warn = error = critical = exception = log = msg


class _ToStructlog(logging.Handler):
    """Hands records of the standard library's logging to our logger."""

    def __init__(self, logger: Logger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that don't fit the message are the library's fault, not ours
            text = _described(record.msg)
        write = self._logger.error if record.levelno >= logging.ERROR else self._logger.warning
        write(text, logger=record.name, exc_info=record.exc_info)


def _add_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the time in RFC 3339, UTC, to the millisecond."""
    event["time"] = f"{now_utc().replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
    return event


def _renderers(mode: Mode, stream: TextIO | None) -> list[Processor]:
    if mode is Mode.PROD:
        return [structlog.processors.format_exc_info, _never_raising(_json)]
    colours = mode is Mode.DEV and _is_terminal(stream) and not os.environ.get("NO_COLOR")
    console = structlog.dev.ConsoleRenderer(
        colors=colours, timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
    )

    def readable(event: EventDict) -> str:
        return console(None, "", {key: _printable(value) for key, value in event.items()})

    return [_never_raising(readable)]


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it is closed
        return False


def _never_raising(render: Callable[[EventDict], str]) -> Processor:
    """Return a renderer that writes the values `render` fails on in another way."""

    def rendered(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
        try:
            return render(event)
        except Exception:  # noqa: BLE001 - a value's own repr may raise anything
            return render({str(_plain(key)): _plain(value) for key, value in event.items()})

    return rendered


def _json(event: EventDict) -> str:
    line = _ENCODER.encode({key: event[key] for key in _HEAD} | dict(event))
    return line if line.isascii() else _NOT_IN_ONE_LINE.sub(_escaped, line)


def _without_form(value: object) -> str:
    """Write what JSON has no form for as its repr, which may leave secrets out; its fields would not."""
    return value.isoformat() if isinstance(value, datetime) else repr(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_without_form)


def _plain(value: object) -> object:
    """Return the value if it can be written, else a text that can."""
    try:
        _ENCODER.encode(value)
        repr(value)
    except Exception:  # noqa: BLE001 - see above
        return _described(value)
    return value


def _described(value: object) -> str:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    try:
        return ascii(value)
    except Exception:  # noqa: BLE001 - see above
        return f"<{type(value).__name__}>"


def _printable(value: object) -> object:
    """Keep line breaks and terminal controls out of a readable line."""
    return value if not isinstance(value, str) or value.isprintable() else repr(value)[1:-1]


def _escaped(text: re.Match[str]) -> str:
    r"""Write characters that the stream's encoding lacks as `\uXXXX`, which JSON reads back."""
    return json.dumps(text[0])[1:-1]
