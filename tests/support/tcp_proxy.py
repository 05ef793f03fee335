"""A network between a client and Redis that loses what a test tells it to lose."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from peekaping_producer.embedded import HOST

Loss = Literal["request", "reply", "connection"]
"""A request never arrives; its reply never comes; its reply is replaced by the end of the connection."""


class TcpProxy:
    """Forwards to one port of this machine. One request at a time on a connection, as without pipelining."""

    def __init__(self, upstream_port: int) -> None:
        self.port = 0
        self.scripts_sent = 0
        """Requests with EVALSHA so far, the lost ones too."""
        self._upstream_port = upstream_port
        self._losses: list[Loss] = []

    def lose(self, what: Loss, times: int = 1) -> None:
        """Lose this of the next `times` requests with EVALSHA."""
        self._losses += [what] * times

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(HOST, self._upstream_port)
        try:
            while request := await reader.read(1 << 20):
                loss = self._loss_of(request)
                if loss == "request":
                    continue
                up_writer.write(request)
                reply = await up_reader.read(1 << 20)
                if loss == "connection":
                    return
                if loss is None:
                    writer.write(reply)
        except ConnectionError:
            return
        finally:
            for end in (writer, up_writer):
                end.close()

    def _loss_of(self, request: bytes) -> Loss | None:
        if b"EVALSHA" not in request:
            return None
        self.scripts_sent += 1
        return self._losses.pop(0) if self._losses else None


@asynccontextmanager
async def tcp_proxy(upstream_port: int) -> AsyncIterator[TcpProxy]:
    """Run a proxy; its clients must be closed before the end of the block."""
    proxy = TcpProxy(upstream_port)
    handlers: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.create_task(proxy._serve(reader, writer)))  # noqa: SLF001 - one thing in two halves

    async with await asyncio.start_server(accept, HOST, 0) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
    for handler in handlers:
        handler.cancel()
    await asyncio.gather(*handlers, return_exceptions=True)
