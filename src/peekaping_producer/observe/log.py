"""Log lines: events with constant names and fields, each with `time`, `level`, `event`, `svc` and `node`.

No line ever raises: a value that can't be written is written in another way, and a line that nobody reads is dropped.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from peekaping_producer.clock import now_utc
from peekaping_producer.config.settings import LogLevel, Mode
from peekaping_producer.observe.log_writer import LogWriter

Logger = FilteringBoundLogger
"""What every part of the Producer logs to; handed down from `app`, never global."""

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}
_HEAD = ("time", "level", "event", "svc", "node")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_NOT_IN_ONE_LINE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
"""Controls, other line ends, and halves of characters, which UTF-8 has no form for."""


class Outlet(Protocol):
    """Where lines go."""

    def write(self, text: str, /) -> object:
        """Take a line, with its end."""

    def flush(self) -> None:
        """See that what was taken goes out."""

    def isatty(self) -> bool:
        """Tell whether people look at it directly."""


def make_logger(mode: Mode, level: LogLevel, service_name: str, outlet: Outlet, node_id: str | None = None) -> Logger:
    """Return a logger that writes to `outlet` in the form `mode` asks for."""
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
    """Give a logger whose lines a thread writes to `stream`; they are written at the end, if somebody reads them.

    The libraries' own warnings and errors become lines of it.
    """
    writer = LogWriter(stream)
    log = make_logger(mode, level, service_name, writer, node_id)
    writer.on_dropped = lambda count: log.warning("log lines dropped", count=count)
    try:
        with capture_stdlib_logging(log):
            yield log
    finally:
        writer.close()


@contextmanager
def capture_stdlib_logging(logger: Logger) -> Iterator[None]:
    """Write the libraries' own warnings and errors as lines of ours while inside."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = [_ToStructlog(logger)]
    # setLevel, not the attribute: only it forgets what loggers have cached.
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.handlers[:] = before
        root.setLevel(level)


class _Lines:
    """Hands lines to an outlet, and drops those it does not take."""

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
            pass  # there is nowhere left to say it

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


def _renderers(mode: Mode, outlet: Outlet) -> list[Processor]:
    if mode is Mode.PROD:
        return [structlog.processors.format_exc_info, _never_raising(_json)]
    colours = mode is Mode.DEV and _is_terminal(outlet) and not os.environ.get("NO_COLOR")
    console = structlog.dev.ConsoleRenderer(
        colors=colours, timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
    )

    def readable(event: EventDict) -> str:
        return console(None, "", {key: _printable(value) for key, value in event.items()})

    return [_never_raising(readable)]


def _is_terminal(outlet: Outlet) -> bool:
    try:
        return outlet.isatty()
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
    line = _ENCODER.encode({key: event[key] for key in _HEAD if key in event} | dict(event))
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
