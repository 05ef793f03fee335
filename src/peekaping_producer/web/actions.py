"""What the page, or any client with the token, can change: make a check due, pause all checks, resume them."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl

from msgspec import Struct
from redis.asyncio import Redis
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from peekaping_producer.config.settings import Settings
from peekaping_producer.errors import Unavailable
from peekaping_producer.json_output import json_line
from peekaping_producer.model.ids import is_monitor_id
from peekaping_producer.node.node import Node
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.report.pausing import pause_checks, resume_checks
from peekaping_producer.report.run_now import make_due
from peekaping_producer.schedule.pause import length_ms, reason_from
from peekaping_producer.web.lookups import Lookups
from peekaping_producer.web.permission import Permission, Refusal

MESSAGES: Final = {
    "due": "The check is due now.",
    "due-later": "The check is due, and will be made when the pause ends.",
    "not-due": "The check could not be made due: this monitor is not checked.",
    "paused": "All checks are paused.",
    "paused-not-go": "The checks of this producer are paused, but a Go producer runs too: it ignores the pause.",
    "resumed": "Checks have resumed.",
}
"""What the page says after an action, by the query field `done` of the address that it was sent back to."""
_MOST_BODY: Final = 4_096
"""Bytes."""
_MOST_FIELDS: Final = 10
_FORM: Final = "application/x-www-form-urlencoded"
_TOO_MANY: Final = 429
_PATH: Final = re.compile(r"/(?!/)[\w\-./~%]*", re.ASCII)

Form = Mapping[str, str]


class Done(Struct, frozen=True):
    """What an action did."""

    code: str
    """A key of MESSAGES."""
    what: str
    """What it was done to, for the log."""
    value: Struct
    """The answer as JSON: what the command of the same name prints."""
    page: str = "/"
    """Where the browser is sent, unless the form names another page in `back`."""


class Actions:
    """Carries out one action at a time."""

    def __init__(self, node: Node, settings: Settings, redis: Redis, lookups: Lookups) -> None:
        """Take the client, and what reads the database."""
        self._node = node
        self._redis = redis
        self._lookups = lookups
        self._permission = Permission(settings.producer_http_token)
        self._turn = asyncio.Lock()
        self._limit_logged = False

    def routes(self) -> list[Route]:
        """Return the routes, which accept nothing but POST."""
        actions = {"run-now": self._run_now, "pause": self._pause, "resume": self._resume}
        return [Route(f"/actions/{name}", self._endpoint(name, act), methods=["POST"]) for name, act in actions.items()]

    def _endpoint(
        self, name: str, act: Callable[[Form, str], Awaitable[Done | Refusal]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            client = request.client.host if request.client else "unknown"
            form: Form = {}
            answer: Done | Refusal | None = self._permission.refusal(request)
            if answer is None:
                body = await _form(request)
                form, answer = (form, body) if isinstance(body, Refusal) else (body, None)
            answer = answer or self._permission.token_refusal(request, form) or await self._done(act, form, client)
            self._log(name, client, answer)
            return _response(request, form, answer)

        return serve

    async def _done(
        self, act: Callable[[Form, str], Awaitable[Done | Refusal]], form: Form, client: str
    ) -> Done | Refusal:
        try:
            async with self._turn:
                return await act(form, client)
        except Unavailable as error:
            return Refusal(503, f"{error}; try again later")

    async def _run_now(self, form: Form, _client: str) -> Done | Refusal:
        id_ = form.get("monitor_id", "").strip().lower()
        if not is_monitor_id(id_):
            return Refusal(400, "the field `monitor_id` must be the id of a monitor")
        redis, timing = self._redis, self._node.timing
        value = await self._lookups.read(lambda catalog: make_due(redis, timing, catalog, [id_]))
        code = "not-due" if not value.monitors[0].due else "due-later" if value.pause else "due"
        return Done(code, id_, value, f"/monitors/{id_}")

    async def _pause(self, form: Form, client: str) -> Done | Refusal:
        try:
            for_ms, reason = length_ms(form.get("for", "")), reason_from(form.get("reason", ""))
        except ValueError as error:
            return Refusal(400, str(error))
        value = await pause_checks(self._redis, self._node.timing, for_ms, reason, f"{client} (HTTP)")
        what = f"until {value.pause.until}, because: {value.pause.reason}"
        return Done("paused-not-go" if value.go_producer else "paused", what, value)

    async def _resume(self, _form: Form, _client: str) -> Done | Refusal:
        value = await resume_checks(self._redis, self._node.timing)
        return Done("resumed", f"the pause until {value.ended.until}" if value.ended else "no pause", value)

    def _log(self, action: str, client: str, answer: Done | Refusal) -> None:
        log = self._node.log
        if isinstance(answer, Done):
            log.info(LogEvent.ACTION_DONE, action=action, client=client, what=answer.what, outcome=answer.code)
            self._limit_logged = False
            return
        limited = answer.status == _TOO_MANY
        if not (limited and self._limit_logged):
            reason = answer.detail or answer.reason
            log.warning(LogEvent.ACTION_REFUSED, action=action, client=client, status=answer.status, reason=reason)
        self._limit_logged = limited


async def _form(request: Request) -> Form | Refusal:
    """Return the fields of a form, which may be empty; read no more than the longest body that is allowed."""
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > _MOST_BODY:
                return Refusal(413, f"the body is longer than {_MOST_BODY:,} bytes")
    except ClientDisconnect:
        return Refusal(400, "the client has sent only a part of the request")
    if body and request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return Refusal(415, f"the body must be a form: {_FORM}")
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        return Refusal(400, "the form can't be understood")


def _response(request: Request, form: Form, answer: Done | Refusal) -> Response:
    """Answer in JSON if the client accepts that; otherwise send a browser on, or refuse in one line of text."""
    as_json = "application/json" in request.headers.get("accept", "")
    if isinstance(answer, Refusal):
        headers = {401: {"www-authenticate": "Bearer"}, _TOO_MANY: {"retry-after": "2"}}.get(answer.status)
        body = json_line({"error": answer.reason}) if as_json else f"{answer.reason}\n"
        return Response(body, answer.status, headers, "application/json" if as_json else "text/plain")
    if as_json:
        return Response(json_line(answer.value), media_type="application/json")
    page = form.get("back", "")
    page = page if _PATH.fullmatch(page) else answer.page
    return Response(status_code=303, headers={"location": f"{page}?done={answer.code}"})
