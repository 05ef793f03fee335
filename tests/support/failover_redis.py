"""A Redis primary and its replica behind one address that fails over, while old connections stay open."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import HOST, RedisServer
from support.nodes import connected
from support.tcp_forwarding import forward, serving
from support.waiting import until

_MARK = "test:mark"
_CHUNK_BYTES = 1 << 16


class FailoverRedis:
    """A primary, its replica, and the address that leads to one of them."""

    def __init__(self, primary: RedisServer, replica: RedisServer, first: Redis, second: Redis) -> None:
        self.port = 0
        """The address's port: new connections go where it leads, old ones stay where they are."""
        self.first_port, self.second_port = primary.port, replica.port
        self.first, self.second = first, second
        self._primary = primary
        self._target = primary.port

    async def replicate(self) -> None:
        """Let the second server follow the first, and wait until it is up to date."""
        await self.second.replicaof(HOST, self.first_port)
        await until(self._in_step, "the replica is in step")

    def kill_first(self) -> None:
        """End the first server at once."""
        self._primary.kill()

    async def demote(self) -> None:
        """Promote the second server and make the first its replica; clients stay connected to both.

        What was written before is there too: a worker's last word that is lost keeps its monitor for half a minute.
        """
        await self.first.set(_MARK, 1)
        await until(lambda: self.second.exists(_MARK), "the replica has all that was written")
        await self.second.replicaof("NO", "ONE")
        await self.second.delete(_MARK)
        await self.first.replicaof(HOST, self.second_port)

    def move(self) -> None:
        """Let new connections lead to the second server."""
        self._target = self.second_port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection, until either end closes it."""
        await forward(self._target, reader, writer, requests=_copied, replies=_copied)

    async def _in_step(self) -> bool:
        info = await self.second.info("replication")
        return bool(info["master_link_status"] == "up")


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
    except ConnectionError:
        pass
    writer.close()


@asynccontextmanager
async def failover_redis() -> AsyncIterator[FailoverRedis]:
    """Run both servers and the address for the duration of the block."""
    with (
        RedisServer(tcp=True, config=("--repl-diskless-sync-delay", "0")) as primary,
        RedisServer(tcp=True, config=("--repl-diskless-sync-delay", "0")) as replica,
    ):
        async with connected(primary.port) as first, connected(replica.port) as second:
            moving = FailoverRedis(primary, replica, first, second)
            async with serving(moving.serve) as moving.port:
                yield moving
