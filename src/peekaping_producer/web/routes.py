"""What is served at which path."""

from collections.abc import Awaitable, Callable

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from peekaping_producer.web.actions import Actions
from peekaping_producer.web.metrics import Metrics
from peekaping_producer.web.pages import Pages
from peekaping_producer.web.probes import Probes, Verdict
from peekaping_producer.web.security import SecurityHeaders
from peekaping_producer.web.static_files import StaticFiles

_UNAVAILABLE = 503


def application(probes: Probes, metrics: Metrics, pages: Pages, files: StaticFiles, actions: Actions) -> Starlette:
    """Return the application."""

    async def serve_metrics(request: Request) -> Response:
        exposition = await metrics.exposition(request.headers.get("accept", ""))
        # The header as it is: a media type would get a second charset.
        return Response(exposition.body, headers={"content-type": exposition.content_type})

    return Starlette(
        routes=[
            Route("/livez", _probe(probes.alive)),
            Route("/readyz", _probe(probes.ready)),
            Route("/metrics", serve_metrics),
            Route("/", pages.overview),
            Route("/events", pages.events),
            Route("/monitors", pages.monitors),
            Route("/monitors/{id}", pages.monitor),
            Route("/static/{name:path}", files.serve),
            *actions.routes(),
        ],
        middleware=[Middleware(SecurityHeaders)],
    )


def _probe(judge: Callable[[], Verdict]) -> Callable[[Request], Awaitable[Response]]:
    async def serve_probe(_request: Request) -> Response:
        verdict = judge()
        body = msgspec.json.encode(verdict)
        return Response(body, 200 if verdict.ok else _UNAVAILABLE, media_type="application/json")

    return serve_probe
