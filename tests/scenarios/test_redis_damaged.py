"""A Redis that refuses, whose keys are damaged, or that lost its data: what is logged, and that checks go on."""

from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from peekaping_producer.asynq import keys as asynq
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.redisdb.keys import DUE, EPOCH, LEADER, LEASE, LEFT, OUR_TYPES
from peekaping_producer.timing import Timing
from support.databases import SqliteDatabase, monitor_row
from support.fleet import Fleet, fleet
from support.nodes import connected
from support.producer import InProcess, producing
from support.schedule import scheduled_ids
from support.waiting import until

UNAVAILABLE, STILL, BACK = "redis unavailable", "redis still unavailable", "redis recovered"
LOST, REBUILT, RENAMED = "schedule lost", "schedule rebuilt", "redis key of wrong type renamed"
QUICK = Timing(election_every_s=0.1, keys_every_s=0.2, remind_every_s=0.2, retry_first_s=0.02, redis_retry_cap_s=0.1)
WRONG: dict[str, tuple[str, ...]] = {
    "string": ("SET", "no such type"),
    "list": ("RPUSH", "an element"),
    "set": ("SADD", "a member"),
    "hash": ("HSET", "a field", "a value"),
    "zset": ("ZADD", "1", "a member"),
}


async def messages(redis: Redis) -> set[bytes]:
    """Return the messages of all tasks that wait."""
    ids = cast("list[bytes]", await redis.lrange(asynq.PENDING, 0, -1))
    return {cast("bytes", await redis.hget(asynq.TASK + id_.decode(), "msg")) for id_ in ids}


async def until_checked_again(redis: Redis, ids: set[str]) -> None:
    """Wait until the schedule is whole, somebody leads, and each monitor has got another task than it had."""
    before = await messages(redis)

    async def whole() -> bool:
        led = await redis.type(LEADER) == b"string"
        return led and await types_are_right(redis) and await scheduled_ids(redis) == ids

    async def checked() -> bool:
        now = await messages(redis)
        return len(now) == len(ids) and not now & before

    await until(whole, "the schedule is whole")
    await until(checked, "all are checked again")
    await until(whole, "the schedule is whole")


async def types_are_right(redis: Redis) -> bool:
    """Return whether the schedule's two sets are sets, or not there."""
    return {await redis.type(key) for key in (DUE, LEASE)} <= {b"zset", b"none"}


async def test_any_key_of_ours_may_be_deleted_or_hold_another_type(
    empty_sqlite_db: SqliteDatabase, own_redis_server: RedisServer
) -> None:
    rows = [monitor_row(interval=1) for _ in range(3)]
    ids = {row["id"] for row in rows}
    await empty_sqlite_db.insert("monitors", *rows)
    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=own_redis_server.port)
    renamed: list[str] = []
    async with connected(own_redis_server.port) as redis, producing(settings, QUICK) as producer:
        await until(lambda: is_whole(redis, ids), "the schedule is whole")
        for key in OUR_TYPES:
            await redis.delete(key)
            await until_checked_again(redis, ids)
        for (key, type_), (wrong, (command, *arguments)) in product(OUR_TYPES.items(), WRONG.items()):
            if wrong == type_ or (wrong == "string" and type_ == "string"):
                continue
            async with redis.pipeline(transaction=True) as pipe:
                pipe.delete(key)
                pipe.execute_command(command, key, *arguments)
                await pipe.execute()
            renamed.append(key)
            await producer.until_logged(RENAMED, len(renamed))
        await until_checked_again(redis, ids)
        lines = producer.logged(RENAMED)
        assert [line["key"] for line in lines] == renamed
        for line in lines:
            assert line["level"] == "error"
            assert line["renamed_to"].startswith(f"{line['key']}:corrupt:")
            assert await redis.exists(line["renamed_to"])


async def is_whole(redis: Redis, ids: set[str]) -> bool:
    """Return whether exactly these monitors are scheduled."""
    return await scheduled_ids(redis) == ids


async def test_a_key_of_asynq_s_with_another_type_is_named_and_left_alone(
    empty_sqlite_db: SqliteDatabase, own_redis_server: RedisServer
) -> None:
    row = monitor_row(interval=1)
    await empty_sqlite_db.insert("monitors", row)
    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=own_redis_server.port)
    async with connected(own_redis_server.port) as redis:
        await redis.set(asynq.PENDING, "no list")
        async with producing(settings, QUICK) as producer:
            line = await producer.until_logged("asynq key of wrong type found")
            assert (line["level"], line["key"], line["found"]) == ("error", asynq.PENDING, "string")
            line = await producer.until_logged(UNAVAILABLE)
            assert "must be renamed by hand" in line["reason"]
            await producer.until_logged(STILL, 3)
            assert not producer.logged(BACK)
            await redis.delete(asynq.PENDING)
            await until(lambda: redis.llen(asynq.PENDING), "the check is put into the queue")
            await producer.until_logged(BACK)
            assert len(producer.logged(UNAVAILABLE)) == len(producer.logged(BACK)) == 1


@pytest.mark.parametrize(
    ("refuse", "allow", "advice"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "has used all of maxmemory"),
        (
            ("ACL", "SETUSER", "default", "-evalsha"),
            ("ACL", "SETUSER", "default", "+evalsha"),
            "lacks a right: grant it by ACL",
        ),
    ],
    ids=["OOM", "NOPERM"],
)
async def test_an_outage_lasts_until_claims_work_and_says_what_to_do(
    empty_sqlite_db: SqliteDatabase,
    own_redis_server: RedisServer,
    refuse: Sequence[str],
    allow: Sequence[str],
    advice: str,
) -> None:
    await empty_sqlite_db.insert("monitors", monitor_row(interval=3600))
    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=own_redis_server.port)
    async with connected(own_redis_server.port) as redis, producing(settings, QUICK) as producer:
        await producer.until_logged("sweep finished")
        await done(redis, *refuse)
        line = await producer.until_logged(UNAVAILABLE)
        assert advice in line["reason"]
        await until(lambda: is_reminded(producer, 3), "it is logged again and again")
        lines = reminders(producer)
        assert all(line["level"] == "warning" and advice in line["reason"] for line in lines), lines
        assert all(
            after["outage_s"] - before["outage_s"] >= QUICK.remind_every_s - 0.1 for before, after in pairwise(lines)
        )
        assert not producer.logged(BACK), "although other commands get answers"
        await done(redis, *allow)
        assert (await producer.until_logged(BACK))["level"] == "warning"
        assert len(producer.logged(UNAVAILABLE)) == 1


def reminders(producer: InProcess) -> list[dict[str, Any]]:
    """Return the lines of an outage that goes on which are not about a new reason."""
    return [line for line in producer.logged(STILL) if "outage_s" in line]


async def is_reminded(producer: InProcess, times: int) -> bool:
    """Return whether an outage was logged again this often."""
    return len(reminders(producer)) >= times


def test_an_outage_is_logged_again_every_five_minutes() -> None:
    assert Timing().remind_every_s == 300


async def done(redis: Redis, *command: str) -> None:
    """Carry out one command."""
    await redis.execute_command(*command)  # type: ignore[no-untyped-call]


def count(nodes: Fleet, event: str) -> int:
    """Return how often all nodes together have logged an event."""
    return sum(len(node.logged(event)) for node in nodes.nodes)


async def test_lost_data_is_logged_once_and_once_that_the_schedule_is_rebuilt(
    empty_sqlite_db: SqliteDatabase, own_redis_server: RedisServer, tmp_path: Path
) -> None:
    rows = [monitor_row(interval=20) for _ in range(50)]
    await empty_sqlite_db.insert("monitors", *rows)
    port = own_redis_server.port
    async with (
        connected(port) as redis,
        fleet(tmp_path, empty_sqlite_db, redis, port, worker=False) as nodes,
    ):

        async def rebuilt(times: int) -> None:
            async def logged() -> bool:
                return count(nodes, REBUILT) >= times

            await until(logged, f"{times} × {REBUILT!r}")
            await nodes.until_whole(rows)
            assert count(nodes, LOST) == count(nodes, REBUILT) == times

        await nodes.begin(rows)
        assert count(nodes, LOST) == count(nodes, REBUILT) == 0, "a fresh install has lost nothing"
        backup = await backed_up(redis)
        for _ in range(3):
            await another_epoch(redis)
        epoch = await nodes.leader_id()
        assert epoch
        await redis.flushall()
        await rebuilt(1)
        await restore(redis, backup)
        await rebuilt(2)
        assert count(nodes, UNAVAILABLE) == 0
        own_redis_server.restart()
        await redis.connection_pool.disconnect()
        await rebuilt(3)
        for node in nodes.nodes:
            await node.until_logged(BACK)
        lines: list[dict[str, Any]] = [line for node in nodes.nodes for line in node.logged(REBUILT)]
        assert all(line["monitors"] == 50 and line["seconds"] < 30 for line in lines)
        await until(nodes.until_led, "a node leads")
    for node in nodes.nodes:
        assert (len(node.logged(UNAVAILABLE)), len(node.logged(BACK))) == (1, 1), node.lines
    assert count(nodes, LOST) == count(nodes, REBUILT) == 3


async def another_epoch(redis: Redis) -> None:
    """Wait for the leader's next extension: a backup from before it is an old one."""
    epoch = await redis.get(EPOCH)

    async def differs() -> bool:
        return await redis.get(EPOCH) != epoch

    await until(differs, "the leader extends its term")


async def backed_up(redis: Redis) -> dict[bytes, tuple[int, bytes]]:
    """Return all keys with what RESTORE needs."""
    keys = cast("list[bytes]", await redis.keys())
    backup = {key: (max(0, await redis.pttl(key)), await redis.dump(key)) for key in keys}
    return {key: (ttl_ms, value) for key, (ttl_ms, value) in backup.items() if value is not None}


async def restore(redis: Redis, backup: dict[bytes, tuple[int, bytes]]) -> None:
    """Put Redis back to what it was."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.flushall()
        for key, (ttl_ms, value) in backup.items():
            pipe.restore(key, ttl_ms, value)
        await pipe.execute()


async def test_a_schedule_that_is_deleted_is_rebuilt_at_once(
    empty_sqlite_db: SqliteDatabase, own_redis_server: RedisServer
) -> None:
    await empty_sqlite_db.insert("monitors", *(monitor_row(interval=3600) for _ in range(20)))
    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=own_redis_server.port)
    async with connected(own_redis_server.port) as redis, producing(settings, QUICK) as producer:
        await until(lambda: due_is(redis, 20), "the schedule is whole")
        await redis.delete(DUE)
        await producer.until_logged(REBUILT)
        await until(lambda: due_is(redis, 20), "the schedule is whole")
        assert [line["level"] for line in producer.logged(LOST)] == ["warning"]
        assert_once(producer, REBUILT)


async def due_is(redis: Redis, size: int) -> bool:
    """Return whether this many monitors are due."""
    return await redis.zcard(DUE) == size


def assert_once(producer: InProcess, event: str) -> None:
    """Assert that an event was logged once."""
    assert len(producer.logged(event)) == 1, producer.lines


async def test_a_monitor_that_is_skipped_as_invalid_is_not_a_lost_schedule(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis
) -> None:
    """It leaves the schedule by its settle, and the next sweep brings it back: one of three is much at once."""
    rows = [monitor_row(interval=1), monitor_row(interval=1), monitor_row(interval=1, timeout=2**40)]
    await empty_sqlite_db.insert("monitors", *rows)
    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=redis_server.port)
    async with producing(settings, replace(QUICK, sweep_every_s=0.5, share=0)) as producer:
        await until(lambda: is_whole(redis, {row["id"] for row in rows[:2]}), "the invalid one is out")
        await until(lambda: has_left(redis, 3), "it has been brought back and has left again")
        assert not producer.logged(LOST)


async def has_left(redis: Redis, times: int) -> bool:
    """Return whether monitors have left the schedule this often."""
    return int(await redis.get(LEFT) or 0) >= times
