"""A network between a client and Redis that loses the requests or replies a test chooses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

from support.tcp_forwarding import forward, serving

Loss = Literal["request", "reply", "connection"]
"""A request never arrives; its reply never comes; its reply is replaced by the end of the connection."""

_CHUNK_BYTES = 1 << 20
"""More than any request or reply of these tests: each is read at once."""


class LosingProxy:
    """Forwards to one port of this machine."""

    def __init__(self, upstream_port: int) -> None:
        self.port = 0
        self.scripts_sent = 0
        """Requests with EVALSHA so far, the lost ones too."""
        self._upstream_port = upstream_port
        self._losses: list[Loss] = []

    def lose(self, what: Loss, times: int = 1) -> None:
        """Lose this of the next `times` requests with EVALSHA."""
        self._losses += [what] * times

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection, until either end closes it."""
        losing: list[Loss] = []
        """What is lost of the reply that comes next."""
        await forward(
            self._upstream_port,
            reader,
            writer,
            requests=lambda client, redis: self._requests(client, redis, losing),
            replies=lambda redis, client: _replies(redis, client, losing),
        )

    async def _requests(self, client: asyncio.StreamReader, redis: asyncio.StreamWriter, losing: list[Loss]) -> None:
        with suppress(ConnectionError):
            while request := await client.read(_CHUNK_BYTES):
                loss = self._loss_of(request)
                if loss == "request":
                    continue
                if loss:
                    losing.append(loss)
                redis.write(request)
        redis.close()

    def _loss_of(self, request: bytes) -> Loss | None:
        if b"EVALSHA" not in request:
            return None
        self.scripts_sent += 1
        return self._losses.pop(0) if self._losses else None


async def _replies(redis: asyncio.StreamReader, client: asyncio.StreamWriter, losing: list[Loss]) -> None:
    with suppress(ConnectionError):
        while reply := await redis.read(_CHUNK_BYTES):
            if not losing:
                client.write(reply)
            elif losing.pop() == "connection":
                break
    client.close()


@asynccontextmanager
async def losing_proxy(upstream_port: int) -> AsyncIterator[LosingProxy]:
    """Run a proxy; its clients must be closed before the end of the block."""
    proxy = LosingProxy(upstream_port)
    async with serving(proxy.serve) as proxy.port:
        yield proxy
