"""Three nodes, and what becomes of everybody's checks when the leader dies, leaves, freezes or is cut off.

Every verdict is the ledger's: what a worker saw.
"""

import asyncio
import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import psutil
from redis.asyncio import Redis

from peekaping_producer.demo.clock import now_ms
from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.redisdb.keys import LEASE
from support.api_events import publish_created, publish_deleted
from support.catalogues import locked_out
from support.databases import PostgresDatabase, Row, SqliteDatabase, monitor_row
from support.fleet import TAKEN, fleet
from support.go_producer import LEADER
from support.ledger import Death
from support.producer import Producer
from support.schedule import scheduled_ids
from support.waiting import until

LOST, RESIGNED = "leadership lost", "leadership resigned"
PAUSE_S = 3.0
"""Longer than a node waits for Redis, shorter than the worker does."""


def monitors(count: int) -> tuple[list[Row], list[Row]]:
    """Return that many of 2 and 3 s, and a few of 20 s."""
    return [monitor_row(interval=2 + number % 2) for number in range(count)], [
        monitor_row(interval=20) for _ in range(6)
    ]


def took_office_once(node: Producer) -> bool:
    """Return whether a node led one term without a break; a busy machine may cost it that, which it then says."""
    return len(node.logged(TAKEN)) == 1 + len(node.logged(LOST))


async def test_a_killed_leader_is_replaced_and_a_leaving_one_hands_over(
    empty_postgres_db: PostgresDatabase,
    redis_server: RedisServer,
    redis: Redis,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    short, long = monitors(60)
    await empty_postgres_db.insert("monitors", *short, *long)
    async with fleet(tmp_path, empty_postgres_db, redis, redis_server.port) as nodes:
        await nodes.begin([*short, *long])
        first = await nodes.until_led()
        left_ms = await redis.pttl(LEADER)
        assert 0 < left_ms <= 5_000, "a dead leader is replaced within 5 s"
        killed_s = time.monotonic()
        await nodes.kill(first)
        second = await nodes.until_led(by_other_than=first)
        record_property("a killed leader was replaced after, s", round(time.monotonic() - killed_s, 2))

        await nodes.until_ran(short)
        left_s = await redis.pttl(LEADER) / 1000
        stopped_s = time.monotonic()
        second.signal(signal.SIGTERM)
        third = await nodes.until_led(by_other_than=second)
        handed_over_s = time.monotonic() - stopped_s
        record_property("a stopped leader was replaced after, s", round(handed_over_s, 2))
        assert handed_over_s < left_s, "nobody waited for the end of the term"
        assert await second.ended() == 0

        await nodes.until_ran(short)
        assert await nodes.leader() not in {first, second}
        nodes.assert_nobody_noticed([*short, *long])
    assert len(second.logged(RESIGNED)) == 1
    assert all(took_office_once(node) for node in (second, third))


async def test_a_leader_that_was_frozen_beyond_its_term_no_longer_acts_as_one(
    empty_postgres_db: PostgresDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    short, long = monitors(60)
    deleted = monitor_row(interval=3)
    await empty_postgres_db.insert("monitors", *short, *long)
    async with fleet(tmp_path, empty_postgres_db, redis, redis_server.port) as nodes:
        await nodes.begin([*short, *long])
        frozen = await nodes.until_led()
        # It holds claims when it freezes: nobody can read what is claimed.
        async with locked_out(empty_postgres_db, "monitors"):
            await until(lambda: some_claimed(redis), "claims are held")
            frozen.signal(signal.SIGSTOP)
            frozen_ms = now_ms()
        await nodes.note_death()
        # What it will hear when it wakes: that there is a monitor, which is gone by then.
        await empty_postgres_db.insert("monitors", deleted)
        await publish_created(redis, deleted)
        second = await nodes.until_led(by_other_than=frozen)
        await nodes.until_ran([deleted], since_ms=0)
        await empty_postgres_db.delete("monitors", deleted["id"])
        await publish_deleted(redis, deleted["id"])
        await nodes.until_whole([*short, *long])

        thawed_ms = now_ms()
        frozen.signal(signal.SIGCONT)
        await frozen.until_logged(LOST)
        await nodes.until_ran(short)
        assert await nodes.leader() is not frozen or len(frozen.logged(TAKEN)) > 1, "only by a new term"
        assert await scheduled_ids(redis) == {row["id"] for row in [*short, *long]}
        assert not nodes.ledger.ran_since([deleted["id"]], thawed_ms)
        assert nodes.ledger.stale(frozen_ms, thawed_ms) == [], "what it had claimed is no longer its own"
        nodes.assert_nobody_noticed([*short, *long])
    assert second.logged(TAKEN)


async def some_claimed(redis: Redis) -> bool:
    """Return whether so many are claimed that every node almost certainly has some: each has at most four batches."""
    return await redis.zcard(LEASE) >= 8


async def test_a_leader_cut_off_from_redis_and_a_redis_that_answers_nobody(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    short, long = monitors(60)
    new = monitor_row(interval=3, created_at=datetime.now().astimezone())
    await empty_sqlite_db.insert("monitors", *short, *long)
    async with fleet(tmp_path, empty_sqlite_db, redis, redis_server.port) as nodes:
        await nodes.begin([*short, *long])
        await cut_off(redis, await nodes.until_led())
        await nodes.note_death()
        # Its subscription was cut off too.
        await empty_sqlite_db.insert("monitors", new)
        await publish_created(redis, new)
        await nodes.until_ran([new], since_ms=0)
        await nodes.until_ran(short)

        nodes.deaths.append(Death(now_ms(), None))
        await redis.client_pause(int(PAUSE_S * 1000))
        await until(redis.ping, "Redis answers again")
        # What they asked meanwhile was done at the end of it, and nobody was there to hear.
        nodes.deaths.append(Death(now_ms(), None))
        await nodes.until_led()
        await nodes.until_ran(short)
        nodes.assert_nobody_noticed([*short, *long])


async def cut_off(redis: Redis, node: Producer) -> None:
    """End every connection of a process to Redis."""
    ports = {connection.laddr.port for connection in psutil.Process(node.pid).net_connections("tcp")}
    clients = await redis.client_list()
    mine = [client["id"] for client in clients if int(client["addr"].rpartition(":")[2]) in ports]
    assert len(mine) >= 2, "one for commands, one to listen"
    for id_ in mine:
        await redis.client_kill_filter(_id=id_)


async def test_all_nodes_are_replaced_one_by_one_and_nobody_notices(
    empty_postgres_db: PostgresDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    short, long = monitors(400)
    await empty_postgres_db.insert("monitors", *short, *long)
    async with fleet(tmp_path, empty_postgres_db, redis, redis_server.port) as nodes:
        await nodes.begin([*short, *long])
        olds = list(nodes.nodes)
        news = [await nodes.add() for _ in olds]
        for old, new in zip(olds, news, strict=True):
            await nodes.until_at_work(new)
            old.signal(signal.SIGTERM)
            assert await old.ended() == 0
            await asyncio.sleep(0)
        assert await nodes.leader() in news
        await nodes.until_ran(short, 2)
        nodes.assert_nobody_noticed([*short, *long])
    assert all(took_office_once(node) for node in nodes.nodes if node.logged(TAKEN))
