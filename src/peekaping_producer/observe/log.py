"""Log lines: events with constant names and fields, each with `time`, `level`, `event` and `svc`."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from peekaping_producer.config import LogLevel, Mode

Logger = FilteringBoundLogger
"""What every part of the Producer logs to; handed down from `app`, never global."""

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}


def make_logger(mode: Mode, level: LogLevel, service_name: str, stream: TextIO | None = None) -> Logger:
    """Return a logger that writes to `stream` (default: standard output) in the form `mode` asks for."""
    stream = stream or sys.stdout
    logger: Logger = structlog.wrap_logger(
        _LineWriter(stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            *_renderers(mode, stream),
        ],
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
    root.handlers[:], root.level = [_ToStructlog(logger)], logging.WARNING
    try:
        yield
    finally:
        root.handlers[:], root.level = before, level


class _LineWriter:
    """Writes lines, and drops them once nobody reads: a closed pipe must not end the checks."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(f"{line}\n")
            self._stream.flush()
        except UnicodeEncodeError:
            self.msg(line.encode("ascii", "backslashreplace").decode())
        except (OSError, ValueError):
            pass  # there is nowhere left to say it

    debug = info = warning = warn = error = critical = exception = log = msg


class _ToStructlog(logging.Handler):
    """Hands records of the standard library's logging to our logger."""

    def __init__(self, logger: Logger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        self._logger.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)


def _renderers(mode: Mode, stream: TextIO) -> list[Processor]:
    if mode is Mode.PROD:
        return [structlog.processors.format_exc_info, _to_json]
    colours = mode is Mode.DEV and stream.isatty() and not os.environ.get("NO_COLOR")
    return [
        structlog.dev.ConsoleRenderer(
            colors=colours, timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _to_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Render one line; a value that JSON has no form for is written as its repr."""
    head = {key: event.pop(key, None) for key in ("time", "level", "event", "svc")}
    try:
        return msgspec.json.encode(head | dict(event), enc_hook=repr).decode()
    except (UnicodeEncodeError, TypeError, ValueError):
        return msgspec.json.encode({key: ascii(value) for key, value in (head | dict(event)).items()}).decode()
