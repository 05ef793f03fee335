"""`run` as a process: settings, log and signals at the start, the exit code and last lines at the end."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial

from peekaping_producer.app import produce
from peekaping_producer.config.loading import load_settings, log_settings, unknown_variables
from peekaping_producer.config.settings import LogLevel, Mode, Settings
from peekaping_producer.errors import EXIT_CONFIGURATION, ConfigurationError
from peekaping_producer.node.node import new_node_id
from peekaping_producer.node.process_signals import hand_over_signals
from peekaping_producer.node.service_manager import notify
from peekaping_producer.node.stop import Stop
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.log import Logger, logging_to, make_logger
from peekaping_producer.timing import Timing

EXIT_UNEXPECTED = 1


def launch() -> int:
    """Run the producer until a signal stops it; return the exit code. Errors go to standard error."""
    node_id = new_node_id()
    mode, service_name = log_settings()
    if mode is Mode.PROD and sys.stderr is not None:
        sys.unraisablehook = partial(
            _log_unraisable, make_logger(mode, LogLevel.ERROR, service_name, sys.stderr, node_id)
        )
    try:
        settings = load_settings()
        # sys.stdout is None if the process was started with standard output closed.
        with logging_to(sys.stdout, settings.mode, settings.log_level, settings.service_name, node_id) as log:
            for unknown in unknown_variables():
                log.warning(LogEvent.UNKNOWN_VARIABLE, variable=unknown.name, did_you_mean=unknown.nearest)
            with asyncio.Runner() as runner:
                runner.get_loop()  # may fail; a coroutine created before it would warn that it was never awaited
                runner.run(_until_signalled(settings, log, node_id))
    except ConfigurationError as error:
        _report(mode, service_name, node_id, error.problems)
        return EXIT_CONFIGURATION
    except Exception as error:  # noqa: BLE001 - the last resort
        _report(mode, service_name, node_id, [f"ended by an unexpected {type(error).__name__}: {error}"], error)
        return EXIT_UNEXPECTED
    return 0


async def _until_signalled(settings: Settings, log: Logger, node_id: str) -> None:
    """Stop at the first signal, exit at once at the second."""
    stop, loop = Stop(), asyncio.get_running_loop()

    def request_stop(number: signal.Signals) -> None:
        if not stop:
            log.info(LogEvent.SHUTDOWN_REQUESTED, signal=number.name)
            notify("STOPPING=1")
            stop.set()

    def on_signal(number: signal.Signals) -> None:
        if stop or loop.is_closed():
            os._exit(128 + number)
        loop.call_soon_threadsafe(request_stop, number)

    hand_over_signals(on_signal)
    await produce(settings, log, Timing(), stop, node_id)


def _log_unraisable(log: Logger, ignored: "sys.UnraisableHookArgs") -> None:
    """Log as JSON what Python would print as plain text: an exception that it cannot raise to anyone."""
    log.error(LogEvent.EXCEPTION_IGNORED, where=repr(ignored.object), exc_info=ignored.exc_value)


def _report(
    mode: Mode, service_name: str, node_id: str, problems: Sequence[str], error: Exception | None = None
) -> None:
    """Write what ended the process to standard error: as JSON in `prod`, else as plain text."""
    if sys.stderr is None:
        return
    if mode is Mode.PROD:
        log = make_logger(mode, LogLevel.ERROR, service_name, sys.stderr, node_id)
        for problem in problems:
            log.error(LogEvent.PRODUCER_FAILED, problem=problem, exc_info=error)
        return
    if error:
        sys.excepthook(type(error), error, error.__traceback__)
    for problem in problems:
        print(f"peekaping-producer: {problem}", file=sys.stderr)  # noqa: T201 - standard error is the place
