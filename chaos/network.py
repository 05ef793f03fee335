"""The connections of the nodes and the worker: each goes through a proxy that can cut, hold back or delay it.

The proxies run in a thread of their own: whatever else the program waits for, they go on.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from peekaping_producer.demo.redis_server import HOST

_CHUNK_BYTES = 1 << 16
_CALL_WITHIN_S = 10.0
_Result = TypeVar("_Result")


class Link:
    """One route from a client to a server."""

    def __init__(self, upstream: Callable[[], int], delay_s: float, call: Callable[..., object]) -> None:
        """Lead to the port that `upstream` returns, whose replies take `delay_s` longer."""
        self.port = 0
        """Where the client connects to."""
        self._upstream, self._delay_s, self._call = upstream, delay_s, call
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        self._call(self._cut)

    def hang(self) -> None:
        """Hold everything back; connections stay open, and new ones are accepted."""
        self._call(self._flowing.clear)

    def flow(self) -> None:
        """Let everything pass again."""
        self._call(self._flow)

    def _cut(self) -> None:
        self._refusing = True
        for writer in self._writers:
            writer.transport.abort()

    def _flow(self) -> None:
        self._refusing = False
        self._flowing.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, until either end closes it."""
        writers = {writer}
        try:
            if self._refusing:
                return
            self._writers.add(writer)
            await self._flowing.wait()
            up_reader, up_writer = await asyncio.open_connection(HOST, self._upstream())
            writers.add(up_writer)
            self._writers.add(up_writer)
            async with asyncio.TaskGroup() as both_ways:
                both_ways.create_task(self._pump(reader, up_writer, 0))
                both_ways.create_task(self._pump(up_reader, writer, self._delay_s))
        except OSError:
            return  # the server is down: so is the connection
        finally:
            self._writers -= writers
            for one in writers:
                one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
        try:
            while data := await reader.read(_CHUNK_BYTES):
                if delay_s:
                    await asyncio.sleep(delay_s)
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()


class Network:
    """All proxies, in one thread, from `with` to the end of the block."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network")
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End all connections and the thread."""
        self._wait_for(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def link(self, upstream: Callable[[], int], delay_s: float = 0) -> Link:
        """Make a route to the port that `upstream` returns at each new connection."""
        return self._wait_for(self._link(upstream, delay_s))

    async def _link(self, upstream: Callable[[], int], delay_s: float) -> Link:
        link = Link(upstream, delay_s, self._loop.call_soon_threadsafe)

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(link.serve(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        server = await asyncio.start_server(accept, HOST, 0)
        self._servers.append(server)
        link.port = server.sockets[0].getsockname()[1]
        return link

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _wait_for(self, coroutine: "Coroutine[Any, Any, _Result]") -> "_Result":
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_CALL_WITHIN_S)
