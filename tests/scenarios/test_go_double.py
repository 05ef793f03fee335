"""The double of the Go producer does what docs/protocol.md, section 1.2, says of the real one, flaws included."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import msgspec
import pytest
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.task_message_pb2 import TaskMessage
from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.redisdb.keys import DUE, LEASE
from support.databases import Database, SqliteDatabase, monitor_row, new_id
from support.fleet import text
from support.go_producer import (
    LEADER,
    UNIQUE,
    GoProducer,
    GoTiming,
    go_client,
    go_producing,
    go_started,
    next_multiple,
)
from support.go_rows import place_of, rows_at
from support.ledger import working
from support.redis_time import redis_now_ms
from support.waiting import until
from vectors.vectors import load

QUICK = GoTiming(
    poll_s=0.01, reclaim_every_s=0.05, term_ms=1_000, campaign_every_s=0.1, look_every_s=0.05, sweep_every_s=0.2
)


@pytest.fixture
async def go(empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis) -> AsyncIterator[GoProducer]:
    """A node that does nothing by itself."""
    async with go_client(redis_server.port) as client:
        yield GoProducer(client, rows_at(place_of(empty_sqlite_db)), GoTiming(), "go-host-4711")


async def scores(redis: Redis, key: str) -> dict[str, float]:
    found = cast("list[tuple[bytes, float]]", await redis.zrange(key, 0, -1, withscores=True))
    return {id_.decode(): score for id_, score in found}


# --- claim and settle


async def test_a_claim_takes_at_most_fifty_for_ten_seconds(go: GoProducer, redis: Redis) -> None:
    await redis.zadd(DUE, {f"m{number:03}": number + 1 for number in range(120)})
    ids, now_ms = await go.claim()
    assert ids == [f"m{number:03}" for number in range(50)]
    assert await scores(redis, LEASE) == dict.fromkeys(ids, now_ms + 10_000)
    assert await redis.zcard(DUE) == 70


async def test_a_task_as_the_real_one_writes_it(either_db: Database, redis_server: RedisServer, redis: Redis) -> None:
    row = monitor_row(interval=45, timeout=16, name='Größe "1"')
    await either_db.insert("monitors", row)
    await redis.zadd(DUE, {row["id"]: 1})
    async with go_client(redis_server.port) as client:
        assert await GoProducer(client, rows_at(place_of(either_db)), GoTiming()).claim_and_settle() == 1

    (task_id,) = cast("list[bytes]", await redis.lrange(keys.PENDING, 0, -1))
    assert task_id == f"healthcheck:{row['id']}".encode()
    assert await redis.smembers(keys.QUEUES) == {b"healthcheck"}
    task = cast("dict[bytes, bytes]", await redis.hgetall(keys.TASK + task_id.decode()))
    recorded = next(case for case in load("tasks")["cases"] if case["id"] == "dev-pg-push-up")
    assert {name.decode() for name in task} == set(recorded["hash"])
    message = TaskMessage.FromString(task[b"msg"])
    assert {field.name for field, _ in message.ListFields()} == {*recorded["message"], "payload"}
    assert (message.timeout, message.retry, message.retention) == (16, 0, 0)
    payload = json.loads(message.payload)
    assert set(payload) == set(recorded["payload"]) - {"last_heartbeat"}
    assert {name: payload[name] for name in ("monitor_id", "monitor_name", "interval", "timeout", "config")} == {
        "monitor_id": row["id"],
        "monitor_name": row["name"],
        "interval": 45,
        "timeout": 16,
        "config": row["config"],
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,2}[1-9])?Z", payload["scheduled_at"])
    assert await redis.get(message.unique_key) == task_id
    assert 0 < await redis.ttl(message.unique_key) <= 90


async def test_the_next_slot_is_the_next_multiple_of_the_interval(
    go: GoProducer, empty_sqlite_db: SqliteDatabase, redis: Redis
) -> None:
    row = monitor_row(interval=7)
    await empty_sqlite_db.insert("monitors", row)
    await redis.zadd(DUE, {row["id"]: 1})
    before_ms = await redis_now_ms(redis)
    await go.claim_and_settle()
    (due_ms,) = (await scores(redis, DUE)).values()
    assert due_ms % 7000 == 0
    assert before_ms < due_ms <= await redis_now_ms(redis) + 7000
    assert await redis.zcard(LEASE) == 0


async def test_a_refused_task_leaks_its_lock_and_is_rescheduled(
    go: GoProducer, empty_sqlite_db: SqliteDatabase, redis: Redis
) -> None:
    row = monitor_row(interval=30)
    await empty_sqlite_db.insert("monitors", row)
    for _ in range(2):
        await redis.zadd(DUE, {row["id"]: 1})
        await go.claim_and_settle()
        # Another millisecond makes another payload, and so another lock.
        await asyncio.sleep(0.002)
    assert (go.enqueued, go.refused) == (1, 1)
    assert await redis.llen(keys.PENDING) == 1
    assert len(await redis.keys(f"{UNIQUE}*")) == 2
    assert await redis.zcard(LEASE) == 0


async def test_what_it_does_not_handle_stays_in_the_lease(
    go: GoProducer, empty_sqlite_db: SqliteDatabase, redis: Redis
) -> None:
    inactive, pointless = monitor_row(active=False), monitor_row(interval=0)
    await empty_sqlite_db.insert("monitors", inactive, pointless)
    ids = {inactive["id"], pointless["id"], new_id()}
    await redis.zadd(DUE, dict.fromkeys(ids, 1))
    assert await go.claim_and_settle() == 3
    assert (await scores(redis, LEASE)).keys() == ids
    assert await redis.zcard(DUE) == await redis.llen(keys.PENDING) == 0


async def test_a_settle_asks_nobody_whether_the_claim_is_still_its_own(
    go: GoProducer, empty_sqlite_db: SqliteDatabase, redis: Redis
) -> None:
    row = monitor_row()
    await empty_sqlite_db.insert("monitors", row)
    await redis.zadd(DUE, {row["id"]: 1})
    ids, now_ms = await go.claim()
    await redis.zadd(LEASE, {row["id"]: now_ms + 5_000.5})
    await go.settle([(id_, await go.handle(id_, now_ms)) for id_ in ids])
    assert await redis.zcard(LEASE) == 0
    assert await scores(redis, DUE) == {row["id"]: next_multiple(now_ms, 60)}


async def test_reclaim_makes_ended_leases_due_now(go: GoProducer, redis: Redis) -> None:
    now_ms = await redis_now_ms(redis)
    await redis.zadd(LEASE, {"ended": now_ms - 1, "held": now_ms + 60_000})
    await go.reclaim()
    assert (await scores(redis, LEASE)).keys() == {"held"}
    assert now_ms <= (await scores(redis, DUE))["ended"] <= await redis_now_ms(redis)


# --- leadership


async def test_the_leader_key_is_taken_renewed_and_resigned(go: GoProducer, redis: Redis) -> None:
    await go.campaign()
    assert go.leads
    assert await redis.get(LEADER) == b"go-host-4711"
    assert 9_000 < await redis.pttl(LEADER) <= 10_000
    await redis.pexpire(LEADER, 2_000)
    await go.campaign()
    assert await redis.pttl(LEADER) > 9_000
    await go.resign()
    assert await redis.get(LEADER) is None
    assert go.leads is False


async def test_the_key_of_another_is_left_alone(go: GoProducer, redis: Redis) -> None:
    await go.campaign()
    await redis.set(LEADER, "ours-1-a1b2")
    await go.resign()
    await go.campaign()
    assert not go.leads
    assert await redis.get(LEADER) == b"ours-1-a1b2"


# --- the leader's work


async def test_taking_office_makes_what_is_missing_due_now_and_removes_the_rest(
    go: GoProducer, empty_sqlite_db: SqliteDatabase, redis: Redis
) -> None:
    kept, claimed, new = (monitor_row() for _ in range(3))
    await empty_sqlite_db.insert("monitors", kept, claimed, new, monitor_row(active=False), monitor_row(interval=0))
    now_ms = await redis_now_ms(redis)
    await redis.zadd(DUE, {kept["id"]: now_ms + 12_345, "unknown": 1})
    await redis.zadd(LEASE, {claimed["id"]: now_ms + 5_000, "gone": 1})
    await go.take_office()
    due = await scores(redis, DUE)
    assert due.keys() == {kept["id"], new["id"]}
    assert due[kept["id"]] == now_ms + 12_345
    assert now_ms <= due[new["id"]] <= await redis_now_ms(redis)
    assert (await scores(redis, LEASE)).keys() == {claimed["id"]}


async def test_a_sweep_adds_moves_and_removes(go: GoProducer, empty_sqlite_db: SqliteDatabase, redis: Redis) -> None:
    kept, moved, gone, new = (monitor_row(interval=60) for _ in range(4))
    await empty_sqlite_db.insert("monitors", kept, moved, gone)
    await go.take_office()
    await redis.zadd(DUE, {kept["id"]: 1})
    await empty_sqlite_db.update("monitors", moved["id"], interval=7)
    await empty_sqlite_db.update("monitors", gone["id"], active=False)
    await empty_sqlite_db.insert("monitors", new)
    await go.sweep()
    due = await scores(redis, DUE)
    assert due.keys() == {kept["id"], moved["id"], new["id"]}
    assert due[kept["id"]] == 1
    assert due[moved["id"]] % 7000 == 0
    assert due[new["id"]] <= await redis_now_ms(redis)


@pytest.mark.parametrize("kind", ["created", "updated"])
async def test_an_event_puts_a_monitor_into_due_and_out_of_the_lease(
    go: GoProducer, empty_sqlite_db: SqliteDatabase, redis: Redis, kind: str
) -> None:
    row = monitor_row()
    await empty_sqlite_db.insert("monitors", row)
    await redis.zadd(LEASE, {row["id"]: 1})
    channel, text = f"peekaping:events:monitor.{kind}", json.dumps({"payload": {"id": row["id"]}}).encode()
    await go.hear(channel, text)
    assert await redis.zcard(LEASE) == 1, "it does not lead"
    await go.campaign()
    await go.hear(channel, text)
    assert await redis.zcard(LEASE) == 0
    assert (await scores(redis, DUE))[row["id"]] <= await redis_now_ms(redis)
    await go.hear(channel, text)
    assert (await scores(redis, DUE))[row["id"]] % 60_000 == 0


async def test_a_deleted_one_leaves_both_sets(go: GoProducer, redis: Redis) -> None:
    await go.campaign()
    await redis.zadd(DUE, {"gone": 1})
    await redis.zadd(LEASE, {"gone": 1})
    await go.hear("peekaping:events:monitor.deleted", b'{"payload": "gone"}')
    assert await redis.zcard(DUE) == await redis.zcard(LEASE) == 0


@pytest.mark.parametrize("text", [b"no json", b"{}", b'{"payload": null}', b'{"payload": 7}', b'{"payload": {}}'])
async def test_an_event_it_does_not_understand_changes_nothing(go: GoProducer, redis: Redis, text: bytes) -> None:
    await go.campaign()
    await go.hear("peekaping:events:monitor.updated", text)
    assert await redis.zcard(DUE) == 0


# --- as a whole


async def test_it_keeps_monitors_running_by_itself(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    rows = [monitor_row(interval=1) for _ in range(60)]
    await empty_sqlite_db.insert("monitors", *rows)
    late = monitor_row(interval=1)
    async with working(redis_server.port, tmp_path) as ledger, go_producing(redis_server.port, empty_sqlite_db, QUICK):
        await ledger.until_ran([row["id"] for row in rows], 0, 3)
        await empty_sqlite_db.insert("monitors", late)
        event = msgspec.json.encode({"type": "monitor.created", "payload": {"id": late["id"]}})
        assert await redis.publish("peekaping:events:monitor.created", event) == 1
        await ledger.until_ran([late["id"]], 0)
    assert await redis.get(LEADER) is None


async def test_one_that_is_killed_leaves_its_term_and_its_claims_behind(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis
) -> None:
    await redis.zadd(DUE, {new_id(): 1})
    async with go_started(redis_server.port, empty_sqlite_db) as node:
        await until(lambda: redis.get(LEADER), "it leads")
        await until(lambda: redis.zcard(LEASE), "it has claimed")
        node.signal(signal.SIGKILL)
        await node.stop()
        assert text(await redis.get(LEADER)) == node.id
        assert await redis.zcard(LEASE) == 1
