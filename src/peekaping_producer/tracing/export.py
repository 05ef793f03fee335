"""Sends spans to a collector, from a thread of its own. Whatever the collector does, checks go on."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from peekaping_producer import APPLICATION, __version__
from peekaping_producer.node.node import Node
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.log import Logger
from peekaping_producer.tracing.spans import BatchTrace

_ENDED_WITHIN_S: Final = 2.0
"""At the end, spans that the collector has not taken by then are given up."""
_LIBRARIES: Final = ("opentelemetry", "urllib3")


@asynccontextmanager
async def exporting(node: Node, endpoint: str) -> AsyncIterator[None]:
    """Trace the batches of a node for the duration of the block; the variables of OpenTelemetry say how.

    Raises ValueError if one of the variables has a value that OpenTelemetry refuses.
    """
    with _libraries_silenced():
        exporter = _ReportingExporter(node.log)
        resource = Resource(
            {"service.name": APPLICATION, "service.version": __version__, "service.instance.id": node.id}
        ).merge(OTELResourceDetector().detect())
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        node.measures.tracer = partial(BatchTrace, provider.get_tracer(APPLICATION, __version__))
        node.log.info(LogEvent.TRACES_STARTED, address=_address(endpoint))
        try:
            yield
        finally:
            node.measures.tracer = None
            await _ended(provider.shutdown)


class _ReportingExporter(SpanExporter):
    """The exporter of OpenTelemetry; the log has one line when it begins to fail, and one when it works again."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._session = _Session()
        self._exporter = OTLPSpanExporter(session=self._session)
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; runs in the thread of the span processor."""
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            self._log.warning(LogEvent.TRACES_FAILED, reason=self._session.problem)
        elif self._failing and not failed:
            self._log.info(LogEvent.TRACES_RECOVERED)
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """End waits between two tries."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _Session(requests.Session):
    """Keeps why the last request failed, in words that contain no address and no header."""

    problem = "not sent"

    def request(self, *arguments: Any, **options: Any) -> requests.Response:  # noqa: ANN401 - as the library has it
        """Send a request."""
        try:
            response = super().request(*arguments, **options)
        except requests.Timeout:
            self.problem = "no answer in time"
            raise
        except requests.exceptions.SSLError:
            self.problem = "no TLS connection, or its certificate is not trusted"
            raise
        except requests.ConnectionError:
            self.problem = "cannot connect"
            raise
        except Exception as error:
            self.problem = type(error).__name__
            raise
        self.problem = f"HTTP {response.status_code}"
        return response


def _address(endpoint: str) -> str:
    """Return host and port of an address, without a user, a password or a path."""
    parts = urlsplit(endpoint)
    return parts.netloc.rpartition("@")[2]


@contextmanager
def _libraries_silenced() -> Iterator[None]:
    """Keep the libraries' own lines out of the log: one for each failed try; some show the headers, and so a secret."""
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    before = [(logger.propagate, logger.handlers[:]) for logger in loggers]
    for logger in loggers:
        logger.propagate, logger.handlers[:] = False, [logging.NullHandler()]
    try:
        yield
    finally:
        for logger, (propagate, handlers) in zip(loggers, before, strict=True):
            logger.propagate, logger.handlers[:] = propagate, handlers


async def _ended(end: Callable[[], object]) -> None:
    """Wait for a blocking call, but not for long. Its thread does not keep the process from ending."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        end()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=run, name="traces", daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(_ENDED_WITHIN_S):
            await ended.wait()
