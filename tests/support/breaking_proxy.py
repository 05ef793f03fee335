"""A network between a client and a database that stalls or breaks in the middle of an answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from support.tcp_forwarding import forward, serving

_CHUNK_BYTES = 1 << 14


class BreakingProxy:
    """Forwards to one port of this machine, all of it unless a test says otherwise."""

    def __init__(self, upstream_port: int) -> None:
        self.port = 0
        self._upstream_port = upstream_port
        self._left_bytes: int | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.held = asyncio.Event()
        """Set once an answer is held back."""

    def cut_after(self, count: int) -> None:
        """Let this many bytes of answers pass, then end the connection they came on; the next ones are whole."""
        self._left_bytes = count

    def stall(self) -> None:
        """Hold all answers back."""
        self._flowing.clear()
        self.held.clear()

    def flow(self) -> None:
        """Let them pass again."""
        self._flowing.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection, until either end closes it."""
        await forward(self._upstream_port, reader, writer, requests=_requests, replies=self._answers)

    async def _answers(self, database: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while answer := await database.read(_CHUNK_BYTES):
                if not self._flowing.is_set():
                    self.held.set()
                    await self._flowing.wait()
                if self._left_bytes is not None and self._left_bytes < len(answer):
                    client.write(answer[: self._left_bytes])
                    self._left_bytes = None
                    break
                if self._left_bytes is not None:
                    self._left_bytes -= len(answer)
                client.write(answer)
        client.close()


async def _requests(client: asyncio.StreamReader, database: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while request := await client.read(_CHUNK_BYTES):
            database.write(request)
    database.close()


@asynccontextmanager
async def breaking_proxy(upstream_port: int) -> AsyncIterator[BreakingProxy]:
    """Run a proxy; its clients must be closed before the end of the block."""
    proxy = BreakingProxy(upstream_port)
    async with serving(proxy.serve) as proxy.port:
        yield proxy
