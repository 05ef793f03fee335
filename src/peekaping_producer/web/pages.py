"""The pages that people read: the overview, the search for a monitor, and a monitor."""

import asyncio
from datetime import datetime
from typing import Final

from msgspec import Struct
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from peekaping_producer.catalog.catalog import Catalog
from peekaping_producer.catalog.reading import Reading, Result
from peekaping_producer.clock import from_unix_ms
from peekaping_producer.config.settings import Settings
from peekaping_producer.errors import Unavailable
from peekaping_producer.model.ids import is_monitor_id
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.node.node import Node
from peekaping_producer.report.explain import explanation, facts, slots
from peekaping_producer.report.findings import look_up
from peekaping_producer.report.resolve import Target
from peekaping_producer.web import live as limits
from peekaping_producer.web.actions import MESSAGES
from peekaping_producer.web.live import Live
from peekaping_producer.web.lookups import MOST_FOUND, Lookups
from peekaping_producer.web.rendering import Rendering

LONGEST_SEARCH = 100
"""Characters."""
_PAST_SLOTS = 3
_RESULTS = 10
_STATUSES: Final = {0: ("down", "bad"), 1: ("up", "ok"), 2: ("pending", "attention"), 3: ("maintenance", "")}
_NOT_FOUND, _UNAVAILABLE = 404, 503
_FRESH = {"cache-control": "no-store"}
_MONITORS_AT_ONCE: Final = 4
"""Requests about single monitors that are answered at the same time; each reads Redis and the database."""


class _Result(Struct, frozen=True):
    time: datetime
    text: str
    kind: str
    ping_ms: int | None


class Pages:
    """Answers the requests for pages."""

    def __init__(
        self, node: Node, settings: Settings, redis: Redis, live: Live, lookups: Lookups, rendering: Rendering
    ) -> None:
        """Take what they are made from."""
        self._node = node
        self._settings = settings
        self._redis = redis
        self._live = live
        self._lookups = lookups
        self._rendering = rendering
        self._room = asyncio.Semaphore(_MONITORS_AT_ONCE)

    async def overview(self, request: Request) -> Response:
        """Answer `/`; after an action, with what became of it."""
        view = await self._live.current()
        done = _done(request)
        return _html(self._rendering.page(view.snapshot, view.parts, done) if done else view.page)

    async def events(self, request: Request) -> Response:
        """Answer `/events`: what changes in the overview, as server-sent events."""
        if request.method == "HEAD":
            return Response(headers=_FRESH, media_type="text/event-stream")
        if self._live.readers >= limits.MOST_READERS:
            return Response("Too many pages are open", _UNAVAILABLE, headers=_FRESH, media_type="text/plain")
        return StreamingResponse(self._live.events(), headers=_FRESH, media_type="text/event-stream")

    async def monitors(self, request: Request) -> Response:
        """Answer `/monitors?q=`: the monitors whose names contain a text; an id leads to its monitor."""
        text = request.query_params.get("q", "").strip()[:LONGEST_SEARCH]
        if is_monitor_id(text.lower()):
            return RedirectResponse(f"/monitors/{text.lower()}", headers=_FRESH)
        async with self._room:
            found, problem = await self._lookups.search(text) if text else ([], None)
        return self._page("monitors.html", text=text, found=found, problem=problem, most=MOST_FOUND)

    async def monitor(self, request: Request) -> Response:
        """Answer `/monitors/ID`: why it is or is not checked."""
        id_ = MonitorId(request.path_params["id"].lower())
        if not is_monitor_id(id_):
            return self._page("no_monitor.html", _NOT_FOUND, id=id_)
        async with self._room:
            return await self._monitor(request, id_)

    async def _monitor(self, request: Request, id_: MonitorId) -> Response:
        reading: Reading | Unavailable
        results: list[_Result] | None = None
        try:
            reading, stored = await self._lookups.read(lambda catalog: _read(catalog, id_))
            results = [_result(one) for one in stored]
        except Unavailable as error:
            reading = error
        try:
            findings = await look_up(self._redis, self._node.timing, Target(id_, id_), reading)
        except Unavailable as error:
            return self._page("unavailable.html", _UNAVAILABLE, id=id_, reason=str(error))
        return self._page(
            "monitor.html",
            id=id_,
            explained=explanation(findings, self._settings),
            facts=[(label, text) for label, text in facts(findings, self._settings) if label != "next slots"],
            slots=slots(findings, self._settings, past=_PAST_SLOTS),
            past=_PAST_SLOTS,
            results=results,
            done=_done(request),
        )

    def _page(self, template: str, status_code: int = 200, **values: object) -> Response:
        pause = self._node.pause.now
        until = from_unix_ms(pause.until_ms) if pause else None
        return _html(self._rendering.other(template, paused_until=until, **values), status_code)


async def _read(catalog: Catalog, id_: MonitorId) -> tuple[Reading, list[Result]]:
    return await catalog.read([id_]), await catalog.results(id_, _RESULTS)


def _result(one: Result) -> _Result:
    text, kind = _STATUSES.get(one.status, (f"status {one.status}", ""))
    return _Result(one.time, text, kind, one.ping_ms)


def _done(request: Request) -> str | None:
    """Return what the page says of the action that the browser comes from."""
    return MESSAGES.get(request.query_params.get("done", ""))


def _html(text: str, status_code: int = 200) -> Response:
    return Response(text, status_code, headers=_FRESH, media_type="text/html")
