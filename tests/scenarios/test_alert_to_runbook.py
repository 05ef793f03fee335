"""What a new operator does with only the docs: runs a node, breaks something, is alerted, finds what to do.

`make package` shows that the installation of docs/install.md works.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from peekaping_producer.demo.redis_server import HOST, RedisServer
from support.databases import PostgresDatabase, monitor_row
from support.fleet import addressed, stop_worker
from support.forked import fork_module
from support.http import Client, client_of
from support.ledger import worker_options
from support.markdown import anchors
from support.postgres import Postgres
from support.producer import environment, started
from support.programs import needed
from support.prometheus import Prometheus
from support.server_process import free_port

ROOT = Path(__file__).parents[2]


@contextmanager
def a_worker(redis_port: int, folder: Path) -> Iterator[None]:
    """Run a worker for the duration of the block."""
    options = msgspec.json.encode(worker_options(redis_port, folder)).decode()
    worker = fork_module(folder, environment(), folder / "worker.log", "peekaping_producer.demo.worker", options)
    try:
        yield
    finally:
        stop_worker(worker)


def assert_leads_to_the_runbook(annotations: dict[str, str]) -> None:
    """Follow the link of an alert."""
    path, _, anchor = annotations["runbook"].partition("#")
    assert anchor in anchors((ROOT / path).read_text(encoding="utf-8"))


@pytest.fixture
async def client(
    own_db: PostgresDatabase, own_redis_server: RedisServer, tmp_path: Path
) -> AsyncIterator[tuple[Client, str]]:
    """Run a node with one monitor, which is due every 2 s; connect to it."""
    await own_db.insert("monitors", monitor_row(interval=2))
    variables = addressed(own_db, own_redis_server.port) | {"PRODUCER_HTTP_PORT": free_port()}
    async with started(tmp_path, **variables), client_of(variables["PRODUCER_HTTP_PORT"]) as client:
        yield client, f"{HOST}:{variables['PRODUCER_HTTP_PORT']}"


async def test_what_breaks_is_reported_and_alerts_lead_to_the_runbook(
    client: tuple[Client, str], own_redis_server: RedisServer, own_postgres_server: Postgres, tmp_path: Path
) -> None:
    needed("prometheus")
    node, target = client
    with Prometheus(target) as prometheus:
        with a_worker(own_redis_server.port, tmp_path):
            await node.until_reason("/readyz")
            await prometheus.until_quiet()
            await node.until_text("/", "on time")

            own_postgres_server.pause()
            await node.until_sample(0, "dependency_up", system="database")
            await node.until_text("/", "database")
            assert_leads_to_the_runbook(await prometheus.until_firing("PeekapingProducerDatabaseUnavailable"))
            own_postgres_server.resume()
            await prometheus.until_over("PeekapingProducerDatabaseUnavailable")

            own_redis_server.pause()
            await node.until_sample(0, "dependency_up", system="redis")
            await node.until_reason("/readyz", "Redis is unavailable")
            await node.until_text("/", "Redis")
            assert_leads_to_the_runbook(await prometheus.until_firing("PeekapingProducerRedisUnavailable"))
            own_redis_server.resume()
            await node.until_reason("/readyz")
        await node.until_sample(0, "workers")
        await node.until_text("/", "worker")
        assert_leads_to_the_runbook(await prometheus.until_firing("PeekapingProducerNoWorker"))
