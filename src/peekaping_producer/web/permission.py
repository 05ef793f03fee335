"""Who may change something over HTTP: a client with the token, from the page itself, and not too often."""

import hmac
import time
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct
from starlette.requests import Request

from peekaping_producer.config.secret import Secret, SecretUnreadable
from peekaping_producer.config.settings import MIN_TOKEN_LENGTH

_AT_ONCE: Final = 10
_EVERY_S: Final = 2.0
"""This many requests may come at once, and then one in this time; those with a wrong token count as well."""
_SAME_SITE: Final = frozenset({"same-origin", "none"})
"""What browsers say of a request from this server's own page, and of one that no page has made."""


class Refusal(Struct, frozen=True):
    """Why a request changes nothing."""

    status: int
    """The HTTP status code."""
    reason: str
    """In one line, for the client."""
    detail: str = ""
    """What only the log says."""


class Permission:
    """Decides whether a request may change something."""

    def __init__(self, token: Secret | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the token of this node; without one, every request is refused."""
        self._token = token
        self._clock = clock
        self._left = float(_AT_ONCE)
        self._counted_s = clock()

    def refusal(self, request: Request) -> Refusal | None:
        """Return why a request is refused before its body is read; None if it is not."""
        if not self._within_limit():
            return Refusal(429, f"too many requests: at most one in {_EVERY_S:.0f} s")
        if self._token is None:
            return Refusal(403, "this node has no token: set PRODUCER_HTTP_TOKEN or PRODUCER_HTTP_TOKEN_FILE")
        if _from_elsewhere(request.headers):
            return Refusal(403, "the request comes from a page of another origin")
        return None

    def token_refusal(self, request: Request, form: Mapping[str, str]) -> Refusal | None:
        """Return why the token of a request is refused; None if it is the right one."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = bearer.strip().encode("latin-1") if scheme.lower() == "bearer" else form.get("token", "").encode()
        if not given:
            return Refusal(401, "the request has no token: give it as `Authorization: Bearer`, or as the field `token`")
        try:
            token = self._revealed()
        except SecretUnreadable as error:
            return Refusal(503, "this node's token can't be read; its log says why", str(error))
        return None if hmac.compare_digest(given, token) else Refusal(401, "the token is wrong")

    def _revealed(self) -> bytes:
        """Return the token. Raises SecretUnreadable, also for a file whose token is too short by now."""
        if self._token is None:
            raise SecretUnreadable("there is no token")
        token = self._token.reveal()
        if len(token) < MIN_TOKEN_LENGTH:
            raise SecretUnreadable(f"{self._token.variable} has fewer than {MIN_TOKEN_LENGTH} characters")
        return token.encode()

    def _within_limit(self) -> bool:
        now_s = self._clock()
        self._left = min(_AT_ONCE, self._left + (now_s - self._counted_s) / _EVERY_S)
        self._counted_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Return whether a browser sent this for a page of another origin.

    `Sec-Fetch-Site` is the browser's own judgement. A proxy may have changed `Host`, to which `Origin` is compared.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in _SAME_SITE
    origin, host = headers.get("origin"), headers.get("host", "")
    return origin is not None and (not host or origin.partition("://")[2].lower() != host.lower())
