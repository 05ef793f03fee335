"""The HTTP server, in the process and event loop of the node. Whatever its clients do, checks go on."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

from redis.asyncio import Redis
from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from peekaping_producer.catalog.last_known import LastKnown
from peekaping_producer.config.settings import Settings
from peekaping_producer.node.guard import kept_running
from peekaping_producer.node.node import Node
from peekaping_producer.node.stop import Stop
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.log import Logger
from peekaping_producer.web.actions import Actions
from peekaping_producer.web.live import Live
from peekaping_producer.web.lookups import Lookups, MonitorNames
from peekaping_producer.web.loop_lag import LoopLag
from peekaping_producer.web.metrics import Metrics
from peekaping_producer.web.pages import Pages
from peekaping_producer.web.probes import Probes
from peekaping_producer.web.redis_figures import RedisReader
from peekaping_producer.web.rendering import Rendering
from peekaping_producer.web.routes import application
from peekaping_producer.web.snapshot import SnapshotReader
from peekaping_producer.web.static_files import StaticFiles

MOST_CLIENTS = 250
"""Connections at once; a further one is closed at once. Each takes a file descriptor, which checks need too."""
_BACKLOG = 64
REQUEST_WITHIN_S = 10.0
"""A connection on which no request is completed for this long is closed."""
TAKEN_WITHIN_S = 10.0
"""A client that takes nothing of what was sent to it for this long is disconnected."""
_KEPT_ALIVE_S = 5
_CLOSED_WITHIN_S = 0.5
"""At the end, an answer that a client has not taken by then is given up."""
RETRY_S = 5.0
"""How often a port that is in use is tried again."""


@asynccontextmanager
async def serving(settings: Settings, port: int, node: Node, redis: Redis, cache: LastKnown) -> AsyncIterator[None]:
    """Serve probes, metrics, the page and its actions for the duration of the block."""
    lag, closing = LoopLag(), Stop()
    metrics = Metrics(node, cache, RedisReader(node, redis), lag)
    lookups = Lookups(node, settings, cache)
    names = MonitorNames(lookups, cache, closing.bell())
    files = StaticFiles()
    rendering = Rendering(node.id, files, actions=settings.producer_http_token is not None)
    live = Live(SnapshotReader(node, redis, names), rendering, node.timing, closing)
    pages = Pages(node, settings, redis, live, lookups, rendering)
    app = application(Probes(node, lag), metrics, pages, files, Actions(node, settings, redis, lookups))
    parts: dict[str, Callable[[Stop], Awaitable[None]]] = {
        "http": _Listening(settings.producer_http_host, port, node.log, app).loop,
        "event loop lag": lag.loop,
        "page": live.loop,
        "names": names.loop,
        "lookups": lookups.loop,
    }
    failed: Exception | None = None
    async with asyncio.TaskGroup() as loops:
        for name, loop in parts.items():
            loops.create_task(kept_running(node, name, partial(loop, closing), closing, LogEvent.LOOP_FAILED))
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below: the group would wrap it
            failed = error
        finally:
            closing.set()
    if failed:
        raise failed


class _Listening:
    """Serves an application at an address, as soon as that is free."""

    def __init__(self, host: str, port: int, log: Logger, app: ASGIApp) -> None:
        self._host, self._port = host, port
        self._log = log
        self._app = app
        self._failure = ""

    async def loop(self, stop: Stop) -> None:
        """Serve until it is time to stop."""
        while not stop:
            try:
                listener = _listener(self._host, self._port)
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                self._note_failure(f"{_text(self._host, self._port)}: {reason}")
                await stop.within(RETRY_S)
                continue
            with listener:
                self._failure = ""
                self._log.info(LogEvent.HTTP_STARTED, address=_text(self._host, self._port))
                await _Server(self._app, stop).serve(sockets=[listener])

    def _note_failure(self, reason: str) -> None:
        if reason != self._failure:
            self._log.error(LogEvent.HTTP_NOT_STARTED, reason=reason)
        self._failure = reason


class _Server(Server):
    """A server that leaves signals and the log to the producer, and ends at its stop."""

    def __init__(self, app: ASGIApp, stop: Stop) -> None:
        super().__init__(
            Config(
                app,
                http=_Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",  # its warnings are about bad requests
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEPT_ALIVE_S,
            )
        )
        self._stop = stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave all signals as they are."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Return whether it is time to end."""
        return await super().on_tick(counter) or bool(self._stop)


class _Connection(H11Protocol):
    """A connection that is closed if there are too many, or if no request is completed on it in time."""

    _deadline: asyncio.TimerHandle | None = None
    _slow: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Close it at once if there are too many."""
        if len(self.connections) >= MOST_CLIENTS:
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        self._await_request()

    def on_response_complete(self) -> None:
        """Give the next request its time."""
        self._await_request()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._cancel_deadline()
        self._cancel_slow()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Let the answer that is under way be taken, but not for long."""
        super().shutdown()
        self._cancel_deadline()
        self._deadline = self.loop.call_later(_CLOSED_WITHIN_S, self.transport.abort)

    def pause_writing(self) -> None:
        """Close it if the client does not take what was sent: it would be kept here."""
        super().pause_writing()
        self._slow = self.loop.call_later(TAKEN_WITHIN_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Forget that the client was slow."""
        super().resume_writing()
        self._cancel_slow()

    def _await_request(self) -> None:
        self._cancel_deadline()
        self._deadline = self.loop.call_later(REQUEST_WITHIN_S, self._expire)

    def _expire(self) -> None:
        """Close it, unless an answer is under way that has no end, such as a stream of events."""
        answering = self.cycle and self.cycle.response_started and not self.cycle.response_complete
        if not answering:
            self.transport.abort()

    def _cancel_deadline(self) -> None:
        if self._deadline:
            self._deadline.cancel()

    def _cancel_slow(self) -> None:
        if self._slow:
            self._slow.cancel()


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)


def _text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
