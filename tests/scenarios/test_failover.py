"""Failover behind a name, a virtual IP or a proxy: the old primary lives on as a replica and keeps its connections."""

import signal
from datetime import datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from peekaping_producer.asynq import keys as asynq
from peekaping_producer.demo.clock import now_ms
from peekaping_producer.redisdb.keys import LEADER, SIGNALS
from support.api_events import publish_created
from support.databases import SqliteDatabase, monitor_row
from support.enqueuing import until_each_enqueues
from support.failover_redis import FailoverRedis, failover_redis
from support.fleet import addressed, fleet, stop_worker
from support.ledger import Death
from support.producer import started
from support.waiting import until

UNAVAILABLE, BACK = "redis unavailable", "redis recovered"


async def retire(worker: ForkServerProcess, servers: FailoverRedis) -> None:
    """Stop a worker that has no task: one that is killed in the middle of a task keeps it until its lease expires."""
    await servers.first.set(asynq.PAUSED, 1)
    await until(lambda: nothing_active(servers.first), "the worker has ended its tasks")
    stop_worker(worker)


async def nothing_active(redis: Redis) -> bool:
    """Return whether no worker has a task."""
    return not await cast("Any", redis.llen(asynq.ACTIVE))


async def test_every_node_enqueues_again_when_the_address_moves_and_old_connections_stay_open(
    empty_sqlite_db: SqliteDatabase, tmp_path: Path
) -> None:
    rows = [monitor_row(interval=2) for _ in range(60)]
    new = monitor_row(interval=2, created_at=datetime.now().astimezone())
    await empty_sqlite_db.insert("monitors", *rows)
    async with (
        failover_redis() as servers,
        fleet(tmp_path, empty_sqlite_db, servers.first, servers.port, nodes=0, worker=False) as nodes,
    ):
        worker = nodes.start_worker("first")
        for _ in range(3):
            await nodes.add(LOG_LEVEL="debug")
        await nodes.begin(rows)
        await servers.replicate()
        await retire(worker, servers)
        await servers.demote()
        nodes.deaths.append(Death(now_ms(), None))
        # Nodes notice before the address moves: their new connections lead to the old primary too.
        for node in nodes.nodes:
            await node.until_logged(UNAVAILABLE)
        servers.move()
        moved_ms = now_ms()
        await servers.second.delete(asynq.PAUSED)
        nodes.start_worker("second", servers.second_port)
        await until_each_enqueues(nodes, moved_ms)
        nodes.deaths.append(Death(now_ms(), None))
        await nodes.until_ran(rows, 2)
        nodes.assert_nobody_noticed(rows)

        await until(lambda: listened_to_by(servers.second, 3), "all nodes listen at the new primary")
        await empty_sqlite_db.insert("monitors", new)
        await publish_created(servers.second, new)
        await nodes.until_ran([new], since_ms=0)
        assert [len(node.logged(event)) for node in nodes.nodes for event in (UNAVAILABLE, BACK)] == [1] * 6


async def listened_to_by(redis: Redis, nodes: int) -> bool:
    """Return whether this many nodes listen to each other's signals at this server."""
    [(_channel, count)] = await redis.pubsub_numsub(SIGNALS)
    return bool(count == nodes)


@pytest.mark.parametrize("leads", [True, False], ids=["leader", "follower"])
async def test_a_node_alone_enqueues_again_within_5_s(
    empty_sqlite_db: SqliteDatabase, tmp_path: Path, *, leads: bool
) -> None:
    rows = [monitor_row(interval=2) for _ in range(20)]
    await empty_sqlite_db.insert("monitors", *rows)
    async with (
        failover_redis() as servers,
        fleet(tmp_path, empty_sqlite_db, servers.first, servers.port, nodes=0, worker=False) as nodes,
    ):
        worker = nodes.start_worker("first")
        node = await nodes.add(LOG_LEVEL="debug")
        await nodes.begin(rows)
        if not leads:
            await servers.first.set(LEADER, "another-1-nx", px=600_000)
            await node.until_logged("another node leads")
        await servers.replicate()
        await retire(worker, servers)
        await servers.demote()
        servers.move()
        moved_ms = now_ms()
        nodes.deaths.append(Death(moved_ms, None))
        await servers.second.delete(asynq.PAUSED)
        nodes.start_worker("second", servers.second_port)
        await until_each_enqueues(nodes, moved_ms)
        nodes.deaths.append(Death(now_ms(), None))
        await nodes.until_ran(rows, 2)
        nodes.assert_nobody_noticed(rows)


async def test_a_leader_that_is_stopped_just_after_a_failover_resigns_at_the_new_primary(
    empty_sqlite_db: SqliteDatabase, tmp_path: Path
) -> None:
    await empty_sqlite_db.insert("monitors", monitor_row(interval=3600))
    async with failover_redis() as servers:
        address = addressed(empty_sqlite_db, servers.port)
        async with started(tmp_path, **address, LOG_LEVEL="info") as node:
            await node.until_logged("leadership taken")
            await servers.replicate()
            await servers.demote()
            servers.move()
            node.signal(signal.SIGTERM)
            assert await node.ended() == 0
            assert node.logged("leadership resigned"), node.lines
        assert await servers.second.get(LEADER) is None
