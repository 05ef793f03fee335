"""What the sample monitors check: small HTTP and TCP servers on this machine, healthy and unhealthy ones."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from msgspec import Struct

from peekaping_producer.demo.redis_server import HOST

_REQUEST_WITHIN_S = 10.0
_FLAP_INTERVALS = 3
"""The flapping target is healthy for this many intervals, then unhealthy for as many."""


class Targets(Struct, frozen=True):
    """The addresses of the servers."""

    http_port: int
    tcp_port: int
    refused_port: int
    """Reserved, with nobody listening."""

    def url(self, path: str) -> str:
        """Return a page's URL: /healthy, /flapping, /slow, /hanging, /broken."""
        return f"http://{HOST}:{self.http_port}{path}"


@asynccontextmanager
async def targets(interval_s: float) -> AsyncIterator[Targets]:
    """Serve until the end of the block; the slow page takes a fifth of `interval_s`."""
    site = _Site(interval_s)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(await asyncio.start_server(site.answer, HOST, 0))
        tcp = await stack.enter_async_context(await asyncio.start_server(_hang_up, HOST, 0))
        refused = stack.enter_context(socket.socket())
        refused.bind((HOST, 0))
        try:
            yield Targets(_port(http.sockets[0]), _port(tcp.sockets[0]), _port(refused))
        finally:
            site.close()


class _Site:
    """The HTTP server's pages."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._connections: set[asyncio.StreamWriter] = set()
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End all responses, even the hanging ones."""
        self._closing.set()
        for writer in self._connections:
            writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, one request."""
        self._connections.add(writer)
        try:
            async with asyncio.timeout(_REQUEST_WITHIN_S):
                request = await reader.readuntil(b"\r\n\r\n")
            status = await self._status(request.split(b" ", 2)[1].decode())
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return  # the client closed the connection, for example because its check timed out
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _status(self, path: str) -> str:
        match path:
            case "/slow":
                await self._pause(self._interval_s / 5)
            case "/hanging":
                await self._pause(None)
            case "/broken":
                return "500 Internal Server Error"
            case "/flapping":
                turn = int(asyncio.get_running_loop().time() / (self._interval_s * _FLAP_INTERVALS))
                return "503 Service Unavailable" if turn % 2 else "200 OK"
        return "200 OK"

    async def _pause(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return


async def _hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


def _port(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])
