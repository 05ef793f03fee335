"""A proxy in front of a real Redis that answers the requests a test names with invalid replies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from support.tcp_forwarding import forward, serving

_CHUNK_BYTES = 1 << 20
"""More than any request or reply of these tests: each is read at once."""


class FaultyRedis:
    """Forwards to one port of this machine."""

    def __init__(self, upstream_port: int) -> None:
        self.port = 0
        self.wrong_replies = 0
        """How many so far."""
        self._upstream_port = upstream_port
        self._about = b""
        self._reply = b""

    def answer_wrongly(self, about: str, reply: bytes) -> None:
        """Answer requests that hold this text with these bytes, and don't forward them."""
        self._about, self._reply, self.wrong_replies = about.encode(), reply, 0

    def forward_all(self) -> None:
        """Forward everything."""
        self._about = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection, until either end closes it."""

        async def requests(client: asyncio.StreamReader, redis: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while request := await client.read(_CHUNK_BYTES):
                    if self._about and self._about in request:
                        self.wrong_replies += 1
                        writer.write(self._reply)
                    else:
                        redis.write(request)
            redis.close()

        await forward(self._upstream_port, reader, writer, requests=requests, replies=_replies)


async def _replies(redis: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while reply := await redis.read(_CHUNK_BYTES):
            client.write(reply)
    client.close()


@asynccontextmanager
async def faulty_redis(upstream_port: int) -> AsyncIterator[FaultyRedis]:
    """Run one; its clients must be closed before the end of the block."""
    redis = FaultyRedis(upstream_port)
    async with serving(redis.serve) as redis.port:
        yield redis
