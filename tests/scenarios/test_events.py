"""Every way in which an event can come, and go wrong: the schedule ends in the database's state.

Only events act here: the sweep and the look for changes come too late to help.
"""

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.message import task_id
from peekaping_producer.asynq.task_message_pb2 import TaskMessage
from peekaping_producer.demo.clock import now_ms
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.leader.event_message import CREATED, DELETED, UPDATED
from peekaping_producer.model.cadence import cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import DUE, LEASE
from peekaping_producer.timing import Timing
from support.api_events import ZERO_TIME, publish_created, publish_deleted, publish_updated, row_message
from support.databases import Database, Row, SqliteDatabase, monitor_row, new_id
from support.fleet import text
from support.ledger import working
from support.producer import InProcess, producing
from support.redis_time import redis_now_ms, until_ms
from support.schedule import scheduled_ids
from support.waiting import until

EVENTS_ALONE = Timing(claim_wait_s=0.05, sweep_every_s=600, changes_every_s=600, reread_after_s=(0.3, 1.0))
ACTED, DROPPED = "events handled", "events dropped as invalid"
SWEPT, NOTHING_SWEPT = "sweep finished", "sweep changed nothing"
LONG_S = 3600
"""An interval in which nothing comes by itself."""


class LeadingNode(Struct):
    """One node that leads, and what it works on."""

    database: Database
    redis: Redis
    port: int
    folder: Path
    node: InProcess

    async def insert(self, *rows: Row) -> None:
        await self.database.insert("monitors", *rows)

    async def update(self, row: Row, **values: object) -> Row:
        await self.database.update("monitors", row["id"], **values)
        return row | values

    async def delete(self, row: Row) -> None:
        await self.database.delete("monitors", row["id"])

    async def acts(self, publish: Callable[[], Awaitable[int]]) -> None:
        """Publish, and wait until the node has acted on it for the first time."""
        before = len(self.node.logged(ACTED))
        assert await publish() == 1, "the leader listens"
        await self.node.until_logged(ACTED, before + 1)

    async def until_scheduled(self, *rows: Row) -> None:
        """Wait until exactly these are in the schedule."""
        ids = {row["id"] for row in rows}

        async def equal() -> bool:
            return await scheduled_ids(self.redis) == ids

        await until(equal, f"{ids} are in the schedule")

    async def due_ms(self, row: Row) -> float | None:
        return await self.redis.zscore(DUE, row["id"])


@asynccontextmanager
async def leading_node(
    database: Database, redis: Redis, server: RedisServer, folder: Path, *rows: Row
) -> AsyncIterator[LeadingNode]:
    """Run one node over these monitors; it leads, listens, and its sweep is over."""
    if rows:
        await database.insert("monitors", *rows)
    settings = database.settings(redis_host=HOST, redis_port=server.port)
    async with producing(settings, EVENTS_ALONE) as node:
        leader = LeadingNode(database, redis, server.port, folder, node)
        await until(lambda: listeners(redis), "it listens")
        await until(lambda: bool(node.logged(SWEPT) or node.logged(NOTHING_SWEPT)))
        yield leader


async def listeners(redis: Redis) -> int:
    ((_, count),) = await redis.pubsub_numsub(CREATED)
    return int(count)


# --- created


async def test_a_created_one_is_checked_at_once_and_then_on_its_grid(
    either_db: Database, redis: Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    row = monitor_row(interval=LONG_S)
    async with (
        leading_node(either_db, redis, redis_server, tmp_path) as leader,
        working(leader.port, tmp_path) as ledger,
    ):
        await leader.insert(row)
        began_ms = await redis_now_ms(redis)
        await leader.acts(lambda: publish_created(redis, row))
        await ledger.until_ran([row["id"]], began_ms - 1)
        await until(lambda: leader.due_ms(row), "it is due again")
        await assert_next_slot(leader, row, began_ms)
    assert len(ledger.scheduled(row["id"])) == 1


async def test_an_event_that_comes_before_its_row_is_looked_at_again(
    either_db: Database, redis: Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    row = monitor_row(interval=LONG_S)
    async with (
        leading_node(either_db, redis, redis_server, tmp_path) as leader,
        working(leader.port, tmp_path) as ledger,
    ):
        await leader.acts(lambda: publish_created(redis, row))
        assert await scheduled_ids(redis) == set()
        await leader.insert(row)
        await ledger.until_ran([row["id"]], 0)
        await leader.until_scheduled(row)


# --- updated


async def test_one_that_is_activated_again_is_checked_at_once(
    either_db: Database, redis: Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    row = monitor_row(interval=LONG_S, active=False)
    async with (
        leading_node(either_db, redis, redis_server, tmp_path, row) as leader,
        working(leader.port, tmp_path) as ledger,
    ):
        assert await scheduled_ids(redis) == set()
        row = await leader.update(row, active=True)
        await leader.acts(lambda: publish_updated(redis, row))
        await ledger.until_ran([row["id"]], 0)
        await leader.until_scheduled(row)
    assert len(ledger.scheduled(row["id"])) == 1


@pytest.mark.parametrize(("before_s", "after_s"), [(LONG_S, 2), (4, LONG_S), (LONG_S, LONG_S + 1)])
async def test_a_changed_interval_moves_it_to_the_first_slot_after_half_a_new_period(
    sqlite_node: LeadingNode, redis: Redis, before_s: int, after_s: int
) -> None:
    row = monitor_row(interval=before_s)
    await sqlite_node.insert(row)
    await sqlite_node.acts(lambda: publish_created(redis, row))
    async with working(sqlite_node.port, sqlite_node.folder) as ledger:
        await ledger.until_ran([row["id"]], 0)
        row = await sqlite_node.update(row, interval=after_s)
        edited_ms = await redis_now_ms(redis)
        await sqlite_node.acts(lambda: publish_updated(redis, row, created_at=ZERO_TIME, interval=before_s))
        acted_ms = await redis_now_ms(redis)
        grid = cadence(MonitorId(row["id"]), after_s)
        due_ms = await sqlite_node.due_ms(row)
        if due_ms is not None and due_ms > acted_ms:
            assert (due_ms - grid.phase_ms) % grid.period_ms == 0
            assert edited_ms + grid.period_ms / 2 <= due_ms <= acted_ms + grid.period_ms * 1.5
        if after_s < LONG_S:
            await ledger.until_ran([row["id"]], acted_ms, 2)
            # The edit's own gap is half a period longer.
            verdict = ledger.verdict([row], acted_ms + grid.period_ms // 2, now_ms())
            assert (verdict.missed, verdict.doubled) == ((), ())
        assert ledger.too_close([row], edited_ms) == []


async def test_any_other_edit_leaves_the_slot_alone_and_shows_in_the_next_task(
    sqlite_node: LeadingNode, redis: Redis
) -> None:
    row = monitor_row(interval=LONG_S)
    await sqlite_node.insert(row)
    await sqlite_node.acts(lambda: publish_created(redis, row))
    await until(lambda: redis.llen(keys.PENDING), "its first task waits")
    await until(lambda: sqlite_node.due_ms(row), "it has its next slot")
    due_ms = await sqlite_node.due_ms(row)
    row = await sqlite_node.update(row, name="Another name", timeout=7)
    await sqlite_node.acts(lambda: publish_updated(redis, row, name="A stale name"))
    assert await sqlite_node.due_ms(row) == due_ms

    await redis.zadd(DUE, {row["id"]: 1})
    await until(lambda: has_name(redis, row), "the waiting task has the new name")
    assert await redis.llen(keys.PENDING) == 1


async def test_an_edit_wins_over_a_claim_in_flight(sqlite_node: LeadingNode, redis: Redis) -> None:
    row = monitor_row(interval=LONG_S)
    await sqlite_node.insert(row)
    # Another node has claimed it, and read it before the edit.
    await redis.zadd(LEASE, {row["id"]: await redis_now_ms(redis) + 30_000.5})
    row = await sqlite_node.update(row, name="Another name")
    await sqlite_node.acts(lambda: publish_updated(redis, row))
    await until(lambda: has_name(redis, row), "it was claimed again, and read after the edit")
    await until(lambda: sqlite_node.due_ms(row), "it has its next slot")
    assert await redis.zcard(LEASE) == 0


# --- deactivated, deleted


@pytest.mark.parametrize("how", ["deactivated", "interval 0", "deleted"])
async def test_one_that_has_gone_leaves_the_schedule_and_its_pending_task_goes_too(
    either_db: Database, redis: Redis, redis_server: RedisServer, tmp_path: Path, how: str
) -> None:
    gone, stays = monitor_row(interval=LONG_S), monitor_row(interval=LONG_S)
    async with leading_node(either_db, redis, redis_server, tmp_path) as leader:
        await leader.insert(gone, stays)
        await publish_created(redis, gone)
        await leader.acts(lambda: publish_created(redis, stays))
        await until_tasks_wait(redis, gone, stays)
        await remove(leader, gone, how)
        await leader.until_scheduled(stays)
        await until_tasks_wait(redis, stays)


@pytest.mark.parametrize("how", ["deactivated", "deleted"])
async def test_one_that_goes_while_it_is_claimed(sqlite_node: LeadingNode, redis: Redis, how: str) -> None:
    row = monitor_row(interval=LONG_S)
    await sqlite_node.insert(row)
    await redis.zadd(LEASE, {row["id"]: await redis_now_ms(redis) + 30_000.5})
    await remove(sqlite_node, row, how)
    await sqlite_node.until_scheduled()


async def test_a_delete_that_is_published_before_its_commit(
    either_db: Database, redis: Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    row = monitor_row(interval=LONG_S)
    async with leading_node(either_db, redis, redis_server, tmp_path, row) as leader:
        await leader.acts(lambda: publish_deleted(redis, row["id"]))
        assert await scheduled_ids(redis) == {row["id"]}, "the database has it"
        await leader.delete(row)
        await leader.until_scheduled()


async def remove(leader: LeadingNode, row: Row, how: str) -> None:
    if how == "deleted":
        await leader.delete(row)
        await leader.acts(lambda: publish_deleted(leader.redis, row["id"]))
    else:
        row = await leader.update(row, **({"active": False} if how == "deactivated" else {"interval": 0}))
        await leader.acts(lambda: publish_updated(leader.redis, row))


# --- what can be wrong with an event


@pytest.mark.parametrize("exists", [True, False])
async def test_several_events_for_one_id_in_any_order_end_in_the_databases_state(
    sqlite_node: LeadingNode, redis: Redis, exists: bool
) -> None:
    rows = [monitor_row(interval=LONG_S) for _ in range(10)]
    if exists:
        await sqlite_node.insert(*rows)
    orders = random.Random(5)
    for row in rows:
        events = [
            (CREATED, row_message("monitor.created", row)),
            (UPDATED, row_message("monitor.updated", row, active=False)),
            (UPDATED, row_message("monitor.updated", row)),
            (DELETED, row_message("monitor.deleted", row["id"])),
        ]
        orders.shuffle(events)
        for channel, data in events:
            await redis.publish(channel, data)
    # The looks that follow an event change nothing any more.
    await until_ms(redis, await redis_now_ms(redis) + EVENTS_ALONE.reread_after_s[-1] * 1000 + 100)
    await sqlite_node.until_scheduled(*(rows if exists else []))


async def test_ids_in_upper_case_mean_the_same_monitor(
    either_db: Database, redis: Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    row = monitor_row(interval=LONG_S)
    async with leading_node(either_db, redis, redis_server, tmp_path) as leader:
        await leader.insert(row)
        await leader.acts(lambda: publish_created(redis, row, id=row["id"].upper()))
        await leader.until_scheduled(row)
        await leader.delete(row)
        await leader.acts(lambda: publish_deleted(redis, row["id"].upper()))
        await leader.until_scheduled()


@pytest.mark.parametrize("channel", [CREATED, UPDATED, DELETED])
async def test_invalid_events_are_logged_with_their_channel_and_affect_no_other(
    sqlite_node: LeadingNode, redis: Redis, channel: str
) -> None:
    row = monitor_row(interval=LONG_S)
    await sqlite_node.insert(row)
    broken: list[bytes] = [
        b"",
        b"no json",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"payload": 7}',
        b'{"payload": {}}',
        b'{"payload": {"id": null}}',
        b'{"payload": {"id": "no uuid"}}',
        b'{"payload": "no uuid"}',
        b'{"payload": {"id": "%s", "active": "no"}}' % new_id().encode(),
        b"[" * 100_000,
    ]
    for data in broken:
        assert await redis.publish(channel, data) == 1
    await sqlite_node.acts(lambda: publish_created(redis, row))
    await sqlite_node.until_scheduled(row)
    dropped = sqlite_node.node.logged(DROPPED)
    assert [line["channel"] for line in dropped] == [channel] * len(broken)


async def test_a_null_payload_is_of_no_monitor(sqlite_node: LeadingNode, redis: Redis) -> None:
    row = monitor_row(interval=LONG_S)
    await sqlite_node.insert(row)
    assert await publish_updated(redis, None) == 1
    await sqlite_node.acts(lambda: publish_created(redis, row))
    await sqlite_node.until_scheduled(row)
    assert sqlite_node.node.logged(DROPPED) == []


async def test_ten_thousand_events_at_once_are_read_in_batches(
    either_db: Database, redis: Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    rows = [monitor_row(interval=LONG_S, active=number % 2 == 0) for number in range(10_000)]
    async with leading_node(either_db, redis, redis_server, tmp_path) as leader:
        await leader.insert(*rows)
        async with redis.pipeline(transaction=False) as pipe:
            for row in rows:
                pipe.publish(UPDATED, row_message("monitor.updated", row))
            await pipe.execute()
        await leader.until_scheduled(*(row for row in rows if row["active"]))
        looks = [line["monitors"] for line in leader.node.logged(ACTED)]
    assert len(looks) <= len(rows) / 20, f"{len(looks)} reads"


# --- what is looked at


async def assert_next_slot(leader: LeadingNode, row: Row, began_ms: int) -> None:
    """Assert that it is due at the first slot of its grid half a period after a check since an instant."""
    grid = cadence(MonitorId(row["id"]), row["interval"])
    due_ms = await leader.due_ms(row)
    assert due_ms is not None
    now_ms = await redis_now_ms(leader.redis)
    assert grid.next_slot(began_ms) <= due_ms <= grid.next_slot(now_ms)


async def has_name(redis: Redis, row: Row) -> bool:
    """Return whether the monitor's task has its name."""
    message = await redis.hget(keys.TASK + task_id(row["id"]), "msg")
    if not isinstance(message, bytes):
        return False
    return bool(json.loads(TaskMessage.FromString(message).payload)["monitor_name"] == row["name"])


async def until_tasks_wait(redis: Redis, *rows: Row) -> None:
    """Wait until exactly these monitors have a pending task, and no other has any."""
    ids = {task_id(row["id"]) for row in rows}

    async def equal() -> bool:
        hashes = {text(key).removeprefix(keys.TASK) for key in await redis.keys(f"{keys.TASK}*")}
        return set(map(text, await redis.lrange(keys.PENDING, 0, -1))) == hashes == ids

    await until(equal, f"the tasks of {ids} wait, and no others")


@pytest.fixture
async def sqlite_node(
    empty_sqlite_db: SqliteDatabase, redis: Redis, redis_server: RedisServer, tmp_path: Path
) -> AsyncIterator[LeadingNode]:
    """Run a node over an empty database."""
    async with leading_node(empty_sqlite_db, redis, redis_server, tmp_path) as leader:
        yield leader
