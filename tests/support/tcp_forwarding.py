"""What every network between a client and a server needs: a port, and connections that end with the test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from peekaping_producer.demo.redis_server import HOST

Stream = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
"""Serves a connection, or forwards one way of it, from where it reads to where it writes, until either end closes."""


@asynccontextmanager
async def serving(serve: Stream) -> AsyncIterator[int]:
    """Serve each connection to the port that is given, which must be closed before the end of the block."""
    handlers: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.create_task(serve(reader, writer))
        handler.add_done_callback(lambda _: writer.close())  # also if it ends before its first step, or by an error
        handlers.add(handler)

    async with await asyncio.start_server(accept, HOST, 0) as server:
        yield server.sockets[0].getsockname()[1]
    for handler in handlers:
        handler.cancel()
    await asyncio.gather(*handlers, return_exceptions=True)


async def forward(
    upstream_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, requests: Stream, replies: Stream
) -> None:
    """Forward one connection both ways, until either end closes it."""
    up_reader, up_writer = await asyncio.open_connection(HOST, upstream_port)
    try:
        async with asyncio.TaskGroup() as both_ways:
            both_ways.create_task(requests(reader, up_writer))
            both_ways.create_task(replies(up_reader, writer))
    finally:
        writer.close()
        up_writer.close()
