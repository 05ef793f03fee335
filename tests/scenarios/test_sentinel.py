"""Failover by sentinels: the primary dies, they promote its replica, and nodes ask them where to go."""

import asyncio
from pathlib import Path

from redis.asyncio import Redis

from peekaping_producer.demo.clock import now_ms
from peekaping_producer.redisdb.keys import SIGNALS
from support.databases import SqliteDatabase, monitor_row
from support.enqueuing import until_each_enqueues
from support.failover_redis import failover_redis
from support.fleet import fleet
from support.nodes import connected
from support.sentinels import MASTER, Sentinel, clients_of, primary_port, sentinels, until_ready
from support.waiting import until

SENTINELS = 3


async def promoted_ms(watchers: list[Redis], port: int) -> float:
    """Wait until a sentinel names the server at this port as the primary; return when it was."""

    async def promoted() -> bool:
        return port in await asyncio.gather(*map(primary_port, watchers))

    await until(promoted, "the replica is promoted")
    return now_ms()


async def test_checks_go_on_within_5_s_of_the_promotion_of_a_replica(
    empty_sqlite_db: SqliteDatabase, tmp_path: Path
) -> None:
    rows = [monitor_row(interval=2) for _ in range(20)]
    await empty_sqlite_db.insert("monitors", *rows)
    async with failover_redis() as servers:
        await servers.replicate()
        with sentinels(servers.first_port, SENTINELS) as watching:
            async with (
                clients_of(watching) as watchers,
                fleet(tmp_path, empty_sqlite_db, servers.first, servers.first_port, nodes=0, worker=False) as nodes,
            ):
                for watcher in watchers:
                    await until_ready(watcher, replicas=1, others=SENTINELS - 1)
                for _ in range(2):
                    await nodes.add(LOG_LEVEL="debug", REDIS_HOST="not-used", **by(watching))
                await nodes.begin(rows)
                servers.kill_first()
                since_ms = await promoted_ms(watchers, servers.second_port)
                await until_each_enqueues(nodes, since_ms)
                async with connected(servers.second_port) as primary:  # sentinels close all earlier connections
                    await until(lambda: heard_by(primary, 2), "all nodes listen at the new primary")
                assert [len(node.logged("redis recovered")) for node in nodes.nodes] == [1, 1]


def by(watching: list[Sentinel]) -> dict[str, str]:
    """Return the variables that lead to the primary that these sentinels name."""
    return {"REDIS_SENTINELS": ",".join(one.address for one in watching), "REDIS_SENTINEL_MASTER": MASTER}


async def heard_by(redis: Redis, nodes: int) -> bool:
    """Return whether this many nodes listen to each other's signals at this server."""
    [(_channel, count)] = await redis.pubsub_numsub(SIGNALS)
    return bool(count == nodes)
