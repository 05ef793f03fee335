"""The checks: whether the target answers, and how fast. A target that fails is a verdict, not an exception."""

import asyncio
import os
import time
from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from peekaping_producer.demo.payload import Check
from peekaping_producer.errors import ConfigurationError

if TYPE_CHECKING:
    import httpx


class Status(IntEnum):
    """The numbers that Peekaping stores in `heartbeats.status` and `monitors.status` (docs/protocol.md, section 2)."""

    DOWN = 0
    UP = 1
    PENDING = 2
    MAINTENANCE = 3


class Verdict(Struct, frozen=True):
    """What a check found."""

    status: Status
    text: str
    ping_ms: int


INSTANT = Verdict(Status.UP, "not checked", 0)
"""The verdict of every check if there are too many monitors to use the network."""


class _HttpTarget(Struct, frozen=True):
    url: str


class _TcpTarget(Struct, frozen=True):
    host: str
    port: int


def http_client() -> "httpx.AsyncClient":
    """Return a client that ignores the proxies and certificates of the environment.

    Raises ConfigurationError if httpx is not installed.
    """
    try:
        import httpx  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            "the demo's HTTP client is not installed: pip install 'peekaping-producer[demo]'"
        ) from error
    return httpx.AsyncClient(trust_env=False, timeout=None, limits=httpx.Limits(max_keepalive_connections=20))  # noqa: S113


async def run_check(check: Check, client: "httpx.AsyncClient") -> Verdict:
    """Run one check under its own timeout.

    Raises ValueError for a type or config that this worker does not know, which archives the task.
    """
    if check.is_under_maintenance:
        return Verdict(Status.MAINTENANCE, "under maintenance", 0)
    if check.monitor_type == "push":
        return _push(check, time.time())
    began = time.perf_counter()
    try:
        async with asyncio.timeout(check.timeout):
            up, text = await _try(check, client)
    except TimeoutError:
        up, text = False, f"no answer within {check.timeout} s"
    return Verdict(Status.UP if up else Status.DOWN, text, round((time.perf_counter() - began) * 1000))


async def _try(check: Check, client: "httpx.AsyncClient") -> tuple[bool, str]:
    match check.monitor_type:
        case "http":
            return await _http(msgspec.json.decode(check.config, type=_HttpTarget).url, client)
        case "tcp":
            target = msgspec.json.decode(check.config, type=_TcpTarget)
            return await _tcp(target.host, target.port)
        case other:
            raise ValueError(f"no executor for monitor type {other!r}")


async def _http(url: str, client: "httpx.AsyncClient") -> tuple[bool, str]:
    import httpx  # noqa: PLC0415 - an extra

    try:
        response = await client.get(url)
    except httpx.HTTPError as error:
        return False, str(error) or type(error).__name__
    return response.is_success, f"{response.status_code} {response.reason_phrase}"


async def _tcp(host: str, port: int) -> tuple[bool, str]:
    try:
        _reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return False, os.strerror(error.errno) if error.errno else type(error).__name__
    writer.close()
    return True, "connected"


def _push(check: Check, now_s: float) -> Verdict:
    last = check.last_heartbeat
    if last is None or last.time is None:
        return Verdict(Status.DOWN, "no push received yet", 0)
    ago_s = now_s - last.time.timestamp()
    if last.status != Status.UP or ago_s > check.interval:
        return Verdict(Status.DOWN, "no push in time", 0)
    return Verdict(Status.UP, f"push received {ago_s:.1f} s ago", 0)
