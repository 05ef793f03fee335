"""Log lines: events with constant names and fields, each with `time`, `level`, `event`, `svc` and `node`.

No line raises, whatever text its fields hold; a line that nobody reads is dropped.
"""

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from peekaping_producer.clock import now_utc
from peekaping_producer.config.settings import LogLevel, Mode
from peekaping_producer.hidden import hidden
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.log_writer import LogWriter

with hidden("rich"):  # its tracebacks are not used; importing it takes a tenth of the start-up time
    import structlog
    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

Logger = FilteringBoundLogger
"""What every part of the producer logs to; passed down from `launch`, never global."""

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}
_HEAD = ("time", "level", "event", "svc", "node")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_NOT_IN_ONE_LINE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
"""Controls, other line ends, and lone surrogates, which UTF-8 cannot encode."""


class Outlet(Protocol):
    """Where lines go."""

    def write(self, text: str, /) -> object:
        """Accept a line, including its line end."""

    def flush(self) -> None:
        """Write what was accepted."""

    def isatty(self) -> bool:
        """Return whether it is a terminal."""


def make_logger(mode: Mode, level: LogLevel, service_name: str, outlet: Outlet, node_id: str | None = None) -> Logger:
    """Return a logger that writes to `outlet` in the format of `mode`."""
    logger: Logger = structlog.wrap_logger(
        _Lines(outlet),
        processors=[structlog.processors.add_log_level, _add_time, *_renderers(mode, outlet)],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        context_class=dict,
        cache_logger_on_first_use=True,
        svc=service_name,
    )
    return logger.bind(node=node_id) if node_id else logger.bind()


@contextmanager
def logging_to(
    stream: TextIO | None, mode: Mode, level: LogLevel, service_name: str, node_id: str | None = None
) -> Iterator[Logger]:
    """Provide a logger whose lines a thread writes to `stream`, the last ones when the block ends.

    Warnings and errors of libraries become lines too.
    """
    writer = LogWriter(stream)
    log = make_logger(mode, level, service_name, writer, node_id)
    writer.on_dropped = lambda count: log.warning(LogEvent.LOG_LINES_DROPPED, count=count)
    try:
        with capture_stdlib_logging(log):
            yield log
    finally:
        writer.close()


@contextmanager
def capture_stdlib_logging(logger: Logger) -> Iterator[None]:
    """Write warnings and errors of libraries as lines of `logger` while inside the block."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = [_ToStructlog(logger)]
    # setLevel, not the attribute: only it clears the cache of the loggers.
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.handlers[:] = before
        root.setLevel(level)


class _Lines:
    """Writes lines to an outlet, and drops those that it refuses."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def msg(self, line: str) -> None:
        try:
            try:
                self._outlet.write(f"{line}\n")
            except UnicodeEncodeError:
                self._outlet.write(f"{_NOT_ASCII.sub(_escaped, line)}\n")
            self._outlet.flush()
        except (OSError, ValueError):
            pass  # nowhere is left to report it

    debug = info = warning = warn = error = critical = exception = log = msg


class _ToStructlog(logging.Handler):
    """Passes records of the standard library's logging to our logger."""

    def __init__(self, logger: Logger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, object] = {"logger": record.name, "message": _message(record), "exc_info": record.exc_info}
        if isinstance(record.msg, LogEvent):
            self._logger.error(record.msg, exc_info=record.exc_info)
        elif record.levelno >= logging.ERROR:
            self._logger.error(LogEvent.LIBRARY_ERROR, **fields)
        else:
            self._logger.warning(LogEvent.LIBRARY_WARNING, **fields)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that don't fit the message are the library's mistake
        return str(record.msg)


def _add_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the time in RFC 3339, UTC, to the millisecond."""
    event["time"] = f"{now_utc().replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
    return event


def _renderers(mode: Mode, outlet: Outlet) -> list[Processor]:
    if mode is Mode.PROD:
        return [structlog.processors.format_exc_info, _json]
    colours = mode is Mode.DEV and _is_terminal(outlet) and not os.environ.get("NO_COLOR")
    console = structlog.dev.ConsoleRenderer(
        colors=colours, timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
    )

    def readable(logger: WrappedLogger, method: str, event: EventDict) -> str:
        return console(logger, method, {key: _printable(value) for key, value in event.items()})

    return [readable]


def _is_terminal(outlet: Outlet) -> bool:
    try:
        return outlet.isatty()
    except ValueError:  # it is closed
        return False


def _json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    fields = {key: event[key] for key in _HEAD if key in event} | dict(event)
    try:
        line = _ENCODER.encode(fields)
    except (TypeError, ValueError, RecursionError):  # NaN, a key that is no text, a structure that contains itself
        line = _ENCODER.encode({key: _simple(value) for key, value in fields.items()})
    return line if line.isascii() else _NOT_IN_ONE_LINE.sub(_escaped, line)


def _simple(value: object) -> object:
    return value if isinstance(value, str | int) else repr(value)


# A value that JSON has no type for is written as its repr, which can leave out secrets that its fields would show.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=repr)


def _printable(value: object) -> object:
    """Keep line breaks and terminal controls out of a readable line."""
    return value if not isinstance(value, str) or value.isprintable() else repr(value)[1:-1]


def _escaped(text: re.Match[str]) -> str:
    r"""Write characters that the stream's encoding lacks as `\uXXXX`, which JSON reads back."""
    return json.dumps(text[0])[1:-1]
