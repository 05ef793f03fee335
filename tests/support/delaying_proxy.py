"""A network of some length between a client and a server: each byte arrives later, and none waits for another."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from support.tcp_forwarding import forward, serving

_CHUNK_BYTES = 1 << 16


class _Delayed:
    """Forwards one way of a connection, each chunk half a round trip after it came."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.TaskGroup() as ends:
            ends.create_task(self._receive(reader))
            ends.create_task(self._deliver(writer))

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        chunk = b"-"
        while chunk:
            try:
                chunk = await reader.read(_CHUNK_BYTES)
            except ConnectionError:
                chunk = b""
            self._under_way.put_nowait((time.monotonic() + self._delay_s, chunk))

    async def _deliver(self, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                arrives_s, chunk = await self._under_way.get()
                await asyncio.sleep(arrives_s - time.monotonic())
                if not chunk:
                    break
                writer.write(chunk)
        writer.close()


@asynccontextmanager
async def delaying_proxy(upstream_port: int, round_trip_s: float) -> AsyncIterator[int]:
    """Add this much to every round trip to a port of this machine; gives the port to connect to instead."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = _Delayed(round_trip_s / 2), _Delayed(round_trip_s / 2)
        await forward(upstream_port, reader, writer, requests=there.forward, replies=back.forward)

    async with serving(serve) as port:
        yield port


@contextmanager
def delaying_proxy_in_thread(upstream_port: int, round_trip_s: float) -> Iterator[int]:
    """Do the same in a thread of its own, for a caller without an event loop."""
    port = 0
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        nonlocal port
        async with delaying_proxy(upstream_port, round_trip_s) as port:
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="delaying-proxy")
    thread.start()
    try:
        ready.wait()
        yield port
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
