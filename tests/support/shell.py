"""An operator's shell, and what its commands find: servers, ports without one, workers."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.server_state_pb2 import ServerInfo
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.model.monitor import MonitorId
from support.databases import SqliteDatabase
from support.producer import Ended, run_here

MONITOR = MonitorId("11111111-1111-4111-8111-111111111111")
SECRET = "hush-keep-secret"


def addressed(database: SqliteDatabase, server: RedisServer, **others: Any) -> dict[str, Any]:
    """Return the variables that lead to both."""
    return {"DB_TYPE": "sqlite", "DB_NAME": database.path, "REDIS_PORT": server.port, **others}


def on_postgres(port: int, **others: Any) -> dict[str, Any]:
    """Return the variables that lead to a database on a Postgres of this machine."""
    return {
        "DB_TYPE": "postgres",
        "DB_HOST": HOST,
        "DB_PORT": port,
        "DB_USER": "me",
        "DB_PASS": SECRET,
        "DB_NAME": "x",
        **others,
    }


class Shell:
    """An operator's shell, in an empty folder, with variables that lead to a database and a Redis."""

    def __init__(self, folder: Path, **variables: Any) -> None:
        self.folder = folder
        self.variables = variables

    async def run(self, *arguments: str, **others: Any) -> Ended:
        """Run a command to its end; whatever it meets, it ends without a traceback and without a secret."""
        ended = await asyncio.to_thread(run_here, self.folder, *arguments, **{**self.variables, **others})
        for text in (ended.out, ended.err):
            assert "Traceback" not in text
            assert SECRET not in text
        return ended

    async def output(self, *arguments: str, code: int = 0, **others: Any) -> str:
        """Return what a command prints; it has nothing for standard error."""
        ended = await self.run(*arguments, **others)
        assert (ended.code, ended.err) == (code, ""), ended.out
        return ended.out

    async def explained(self, id_: str = MONITOR, *, code: int = 0, **others: Any) -> dict[str, str]:
        """Return what `explain` says, by the word that a line begins with."""
        lines = (await self.output("explain", id_, code=code, **others)).splitlines()
        return {word: rest.strip() for word, _, rest in (line.partition("  ") for line in lines)}


@contextmanager
def free_port() -> Iterator[int]:
    """Hold a port on which nothing listens."""
    with socket.socket() as held:
        held.bind((HOST, 0))
        yield held.getsockname()[1]


async def put_worker(redis: Redis) -> None:
    """Announce a worker process that takes from the queue, as asynq does."""
    info = ServerInfo(host="worker", pid=7, server_id="w", concurrency=10, status="active", queues={keys.QUEUE: 1})
    key = f"{keys.SERVERS}:{{worker:7:w}}"
    await redis.set(key, info.SerializeToString())
    await redis.zadd(keys.SERVERS, {key: time.time() + 3600})
