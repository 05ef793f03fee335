"""Events of the API server: the monitor is read from the database, whatever the event says of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from peekaping_producer.clock import now_utc
from peekaping_producer.leader import events as events_module
from peekaping_producer.leader.event_message import CREATED, DELETED, UPDATED
from peekaping_producer.model.cadence import cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.redisdb.keys import DUE, LEASE, REMOVED
from peekaping_producer.schedule.orders import Enqueue
from support.asynq_states import RedisState, fresh_message, put_pending, redis_state, score
from support.catalogues import monitors_unreadable
from support.databases import Database, SqliteDatabase, monitor_row, new_id, numbered_id
from support.leader_duties import CALM, Leader, leader
from support.redis_time import redis_now_ms
from support.schedule import is_not_scheduled, is_scheduled, scheduled_ids
from support.waiting import until
from vectors.vectors import load

SWEPT, NOTHING_SWEPT = "sweep finished", "sweep changed nothing"
FAR_MS = 10**13
HANDLED, DROPPED = "events handled", "events dropped as invalid"


# --- events


@asynccontextmanager
async def listening(led: Leader) -> AsyncIterator[None]:
    """Lead with the duties that hear events and act on them, once the subscription is open."""
    async with led.elected(*led.events.duties()):
        await until(lambda: subscribed(led.redis))
        yield


async def subscribed(redis: Redis, count: int = 1) -> bool:
    return [number for _, number in await redis.pubsub_numsub(CREATED, UPDATED, DELETED)] == [count] * 3


async def publish(redis: Redis, channel: str, id_: str, **row: object) -> None:
    payload: object = id_ if channel == DELETED else {"id": id_, **row}
    message = {"type": channel.removeprefix("peekaping:events:"), "payload": payload}
    assert await redis.publish(channel, json.dumps(message)) == 1


async def acted(led: Leader, act: Callable[[], Awaitable[None]]) -> None:
    """Do something, and wait until the next event has been acted on."""
    before = len(led.test.logged(HANDLED))
    await act()
    await led.test.until_logged(HANDLED, before + 1)


async def test_a_created_monitor_is_due_at_once(redis: Redis, any_db: Database) -> None:
    row = monitor_row(interval=86_400)
    await any_db.insert("monitors", row)
    async with leader(redis, any_db) as led, listening(led):
        await acted(led, lambda: publish(redis, CREATED, row["id"], active=True))
        assert await score(redis, DUE, row["id"]) <= await redis_now_ms(redis) + 1


@pytest.mark.parametrize("channel", [UPDATED, CREATED])
async def test_an_id_in_upper_case_is_the_same_monitor(redis: Redis, any_sql_db: Database, channel: str) -> None:
    row = monitor_row(id="abcdefab-cdef-4abc-8def-abcdefabcdef")
    await any_sql_db.insert("monitors", row)
    async with leader(redis, any_sql_db) as led, listening(led):
        await acted(led, lambda: publish(redis, channel, row["id"].upper()))
        assert await scheduled_ids(redis) == {row["id"]}
        await any_sql_db.delete("monitors", row["id"])
        await acted(led, lambda: publish(redis, DELETED, row["id"].upper()))
        assert await scheduled_ids(redis) == set()


async def test_a_changed_interval_takes_its_own_slots_from_half_a_period_on(redis: Redis, any_db: Database) -> None:
    row = monitor_row(interval=3600)
    await any_db.insert("monitors", row)
    async with leader(redis, any_db) as led, listening(led):
        await led.sweeper.sweep_once(led.term)
        await redis.zadd(DUE, {row["id"]: cadence(row["id"], 3600).slot_from(await redis_now_ms(redis) + 5000) + 1})
        await any_db.update("monitors", row["id"], interval=7000, updated_at=now_utc())
        before_ms = await redis_now_ms(redis)
        await acted(led, lambda: publish(redis, UPDATED, row["id"]))
        own = cadence(row["id"], 7000)
        slots = {own.next_slot(at_ms) for at_ms in range(before_ms, await redis_now_ms(redis) + 1)}
        assert await score(redis, DUE, row["id"]) in slots


async def test_another_edit_changes_nothing_in_the_schedule(redis: Redis, any_db: Database) -> None:
    row = monitor_row(interval=3600)
    await any_db.insert("monitors", row)
    async with leader(redis, any_db) as led, listening(led):
        await led.sweeper.sweep_once(led.term)
        due_ms = cadence(row["id"], 3600).slot_from(await redis_now_ms(redis) + 5000)
        await redis.zadd(DUE, {row["id"]: due_ms})
        await any_db.update("monitors", row["id"], name="Another", updated_at=now_utc())
        await acted(led, lambda: publish(redis, UPDATED, row["id"]))
        assert await score(redis, DUE, row["id"]) == due_ms


@pytest.mark.parametrize("how", ["deleted", "deactivated"])
async def test_a_monitor_that_is_gone_leaves_with_its_claim_and_its_task(
    redis: Redis, any_db: Database, how: str
) -> None:
    waiting, claimed = monitor_row(), monitor_row()
    await any_db.insert("monitors", waiting, claimed)
    ids = [MonitorId(waiting["id"]), MonitorId(claimed["id"])]
    await redis.zadd(DUE, {claimed["id"]: 1})
    async with leader(redis, any_db) as led, listening(led):
        claim = await led.schedule.claim(1)
        await redis.zadd(DUE, {waiting["id"]: FAR_MS})
        await put_pending(redis, ids[0])
        for id_ in ids:
            if how == "deleted":
                await any_db.delete("monitors", id_)
                await acted(led, lambda id_=id_: publish(redis, DELETED, id_))  # type: ignore[misc]
            else:
                await any_db.update("monitors", id_, active=False)
                await acted(led, lambda id_=id_: publish(redis, UPDATED, id_, active=False))  # type: ignore[misc]
        order = Enqueue(ids[1], cadence(ids[1], 60), fresh_message(ids[1]))
        assert (await led.schedule.settle(claim, [order])).outcomes == (Outcome.LOST,)
        for id_ in ids:
            assert await redis_state(redis, id_) == RedisState({}, [], None, None)


async def test_a_monitor_activated_again_is_due_at_once(redis: Redis, any_db: Database) -> None:
    row = monitor_row(interval=86_400, active=False)
    await any_db.insert("monitors", row)
    async with leader(redis, any_db) as led, listening(led):
        await acted(led, lambda: publish(redis, UPDATED, row["id"], active=False))
        assert await scheduled_ids(redis) == set()
        await any_db.update("monitors", row["id"], active=True, updated_at=now_utc())
        await acted(led, lambda: publish(redis, UPDATED, row["id"], active=True))
        assert await score(redis, DUE, row["id"]) <= await redis_now_ms(redis) + 1


async def test_the_database_counts_and_not_what_events_say(redis: Redis, any_db: Database) -> None:
    active, inactive = monitor_row(), monitor_row(active=False)
    await any_db.insert("monitors", active, inactive)
    async with leader(redis, any_db) as led, listening(led):
        await acted(led, lambda: publish(redis, DELETED, active["id"]))
        await acted(led, lambda: publish(redis, UPDATED, active["id"], active=False))
        await acted(led, lambda: publish(redis, CREATED, inactive["id"], active=True))
        unknown = new_id()
        await acted(led, lambda: publish(redis, UPDATED, unknown, active=True))
        assert await scheduled_ids(redis) == {active["id"]}


# --- a second look


async def test_a_monitor_whose_row_comes_after_its_event_is_found(redis: Redis, any_db: Database) -> None:
    row = monitor_row(interval=86_400)
    async with leader(redis, any_db, replace(CALM, reread_after_s=(0.1, 0.2))) as led:

        async def commit(name: str, number: int) -> None:
            if (name, number) == ("active_of", 1):
                await any_db.insert("monitors", row)

        led.catalog.after = commit
        async with listening(led):
            await publish(redis, CREATED, row["id"], active=True)
            await until(lambda: is_scheduled(redis, row["id"]))
            assert await score(redis, DUE, row["id"]) <= await redis_now_ms(redis) + 1
            await led.test.until_logged(HANDLED, 3)
    # Deleted as of the first read, there again as of the second.
    assert await redis.zcard(REMOVED) == 0


@pytest.mark.parametrize("look_number", [1, 2])
async def test_a_monitor_whose_row_goes_after_its_event_leaves(
    redis: Redis, any_db: Database, look_number: int
) -> None:
    row = monitor_row()
    await any_db.insert("monitors", row)
    await redis.zadd(DUE, {row["id"]: FAR_MS})
    async with leader(redis, any_db, replace(CALM, reread_after_s=(0.1, 0.2))) as led:

        async def commit(name: str, number: int) -> None:
            if (name, number) == ("active_of", look_number):
                await any_db.delete("monitors", row["id"])

        led.catalog.after = commit
        async with listening(led):
            await publish(redis, DELETED, row["id"])
            await led.test.until_logged(HANDLED, 3)
    assert await scheduled_ids(redis) == set()


async def test_an_edit_revokes_a_claim_once_and_again_only_when_the_row_came_late(
    redis: Redis, any_db: Database
) -> None:
    row = monitor_row()
    await any_db.insert("monitors", row)
    await redis.zadd(DUE, {row["id"]: 1})
    looks: list[float | None] = []
    async with leader(redis, any_db, replace(CALM, reread_after_s=(0.05, 0.1, 0.15))) as led:
        await led.schedule.claim(1)

        async def before(name: str, number: int) -> None:
            """Poll the lease, and claim again what a read has revoked; the edit becomes visible before the third."""
            if name == "active_of":
                looks.append(await redis.zscore(LEASE, row["id"]))
                await led.schedule.claim(1)
                if number == 3:
                    await any_db.update("monitors", row["id"], interval=61, updated_at=now_utc())

        led.catalog.before = before
        async with listening(led):
            await publish(redis, UPDATED, row["id"])
            await led.test.until_logged(HANDLED, 4)
            lease_ms = await redis.zscore(LEASE, row["id"])
    first, second, third, fourth = looks
    assert first is not None
    assert second is None, "revoked by the first look"
    assert third is not None, "left alone by the second, which saw the same row"
    assert fourth is None, "revoked by the third, which saw the edit"
    assert lease_ms is not None, "left alone by the fourth"


async def test_events_out_of_order_end_in_the_state_of_the_database(redis: Redis, any_db: Database) -> None:
    back, gone = monitor_row(), monitor_row()
    await any_db.insert("monitors", back)
    async with leader(redis, any_db, replace(CALM, reread_after_s=(0.05,))) as led, listening(led):
        for _ in range(3):
            await publish(redis, UPDATED, back["id"], active=False)
            await publish(redis, CREATED, gone["id"], active=True)
            await publish(redis, DELETED, back["id"])
            await publish(redis, UPDATED, gone["id"], active=True)
            await publish(redis, CREATED, back["id"], active=True)
            await publish(redis, DELETED, gone["id"])
            await publish(redis, UPDATED, gone["id"], active=True)
        await until(lambda: len(led.events._reads) == 0)
        assert await scheduled_ids(redis) == {back["id"]}


# --- many events, and bad ones


async def test_a_burst_of_events_is_read_in_batches(redis: Redis, empty_sqlite_db: SqliteDatabase) -> None:
    count = 10_000
    rows = [monitor_row(id=numbered_id(n)) for n in range(1, count + 1)]
    await empty_sqlite_db.insert("monitors", *rows)
    async with leader(redis, empty_sqlite_db) as led, listening(led):
        async with redis.pipeline(transaction=False) as pipe:
            for row in rows:
                pipe.publish(UPDATED, json.dumps({"type": "monitor.updated", "payload": {"id": row["id"]}}))
            await pipe.execute()
        await until(lambda: counted(redis, count))
        await until(lambda: len(led.events._reads) == 0)
        assert led.catalog.readings["active_of"] <= count / 20
        assert led.catalog.most_ids <= CALM.sweep_page
        assert sum(line["monitors"] for line in led.test.logged(HANDLED)) == count


async def counted(redis: Redis, count: int) -> bool:
    return bool(await redis.zcard(DUE) == count)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"null", b'{"payload": 7}', b'{"payload": "no-id"}'])
@pytest.mark.parametrize("channel", [CREATED, UPDATED, DELETED])
async def test_an_invalid_event_is_logged_with_its_channel_and_dropped(
    redis: Redis, empty_sqlite_db: SqliteDatabase, channel: str, data: bytes
) -> None:
    row = monitor_row()
    await empty_sqlite_db.insert("monitors", row)
    async with leader(redis, empty_sqlite_db) as led, listening(led):
        await redis.publish(channel, data)
        await redis.publish(UPDATED, json.dumps({"type": "monitor.updated", "payload": None}))
        await acted(led, lambda: publish(redis, CREATED, row["id"]))
        (line,) = led.test.logged(DROPPED)
        assert (line["level"], line["channel"]) == ("warning", channel)
        assert line["reason"]
        assert led.test.node.tally.take().checks == {"event_dropped": 1}
    assert await scheduled_ids(redis) == {row["id"]}


async def test_events_of_other_kinds_are_not_listened_to(redis: Redis, empty_sqlite_db: SqliteDatabase) -> None:
    async with leader(redis, empty_sqlite_db) as led, listening(led):
        others = {
            event["channel"]: event["data"]
            for run in load("events")["runs"]
            for step in run["steps"]
            for event in step["events"]
            if event["channel"] not in {CREATED, UPDATED, DELETED}
        }
        assert len(others) >= 5
        for channel, data in others.items():
            assert await redis.publish(channel, data) == 0


async def test_more_events_than_memory_is_meant_for_are_left_to_a_sweep(
    redis: Redis, empty_sqlite_db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "MOST_AWAITED", 3)
    async with leader(redis, empty_sqlite_db) as led:
        for _ in range(3):
            led.events.take(DELETED, json.dumps({"payload": new_id()}).encode())
        assert not await led.sweep_wanted.within(0)
        led.events.take(DELETED, json.dumps({"payload": new_id()}).encode())
        assert await led.sweep_wanted.within(0)
        assert len(led.events._reads) == 3


async def test_a_new_subscription_asks_for_a_sweep(redis: Redis, any_db: Database) -> None:
    row = monitor_row()
    async with leader(redis, any_db) as led:
        async with led.elected(led.events.duties()[0], led.sweeper.duty()):
            await led.test.until_logged(NOTHING_SWEPT)
            await until(lambda: subscribed(redis))
            # What is published while nobody listens is lost.
            await any_db.insert("monitors", row)
            assert await redis.client_kill_filter(_type="pubsub") == 1
            await led.test.until_logged(SWEPT)
            await until(lambda: subscribed(redis))
        assert led.test.logged("redis unavailable")
    assert await scheduled_ids(redis) == {row["id"]}


# --- events while the database is unavailable


async def test_a_monitor_is_removed_on_the_strength_of_the_event_during_an_outage(
    redis: Redis, any_sql_db: Database
) -> None:
    deleted, deactivated, edited, other = (monitor_row() for _ in range(4))
    await any_sql_db.insert("monitors", deleted, deactivated, edited, other)
    async with leader(redis, any_sql_db) as led, listening(led):
        await led.sweeper.sweep_once(led.term)
        await put_pending(redis, MonitorId(deleted["id"]))
        async with monitors_unreadable(any_sql_db):
            await publish(redis, UPDATED, edited["id"], active=True)
            await publish(redis, UPDATED, deactivated["id"], active=False)
            await publish(redis, DELETED, deleted["id"])
            await until(lambda: is_not_scheduled(redis, deleted["id"]))
            await until(lambda: is_not_scheduled(redis, deactivated["id"]))
            assert await redis_state(redis, MonitorId(deleted["id"])) == RedisState({}, [], None, None)
            # Nothing is known of these (invariant 6).
            assert await scheduled_ids(redis) == {edited["id"], other["id"]}
        # It was said too early, or never came true: the database decides when it is back.
        await until(lambda: is_scheduled(redis, deleted["id"]))
        await until(lambda: len(led.events._reads) == 0)
        assert await scheduled_ids(redis) == {row["id"] for row in (deleted, deactivated, edited, other)}


async def test_a_monitor_is_removed_on_the_strength_of_the_event_even_if_reads_hang(
    redis: Redis, any_db: Database
) -> None:
    deleted, other = monitor_row(), monitor_row()
    await any_db.insert("monitors", deleted, other)
    async with leader(redis, any_db) as led, listening(led):
        await led.sweeper.sweep_once(led.term)
        hangs, answers = asyncio.Event(), asyncio.Event()

        async def hang(_name: str, _number: int) -> None:
            hangs.set()
            await answers.wait()

        led.catalog.after = hang
        sweep = asyncio.create_task(led.sweeper.sweep_once(led.term))
        await hangs.wait()
        await publish(redis, DELETED, deleted["id"])
        await until(lambda: is_not_scheduled(redis, deleted["id"]))
        await any_db.delete("monitors", deleted["id"])
        answers.set()
        assert (await sweep).added == 0
        assert await scheduled_ids(redis) == {other["id"]}


async def test_events_received_during_an_outage_are_handled_after_it(redis: Redis, any_sql_db: Database) -> None:
    created, deleted = monitor_row(interval=86_400), monitor_row()
    await any_sql_db.insert("monitors", deleted)
    async with leader(redis, any_sql_db) as led, listening(led):
        await led.sweeper.sweep_once(led.term)
        async with monitors_unreadable(any_sql_db):
            await publish(redis, CREATED, created["id"], active=True)
            await led.test.until_logged("database unavailable")
            await publish(redis, DELETED, deleted["id"])
            await until(lambda: is_not_scheduled(redis, deleted["id"]))
            await any_sql_db.insert("monitors_elsewhere", created)
            await any_sql_db.execute(f"DELETE FROM monitors_elsewhere WHERE id = '{deleted['id']}'")
        await until(lambda: len(led.events._reads) == 0)
        assert await scheduled_ids(redis) == {created["id"]}
        assert await score(redis, DUE, created["id"]) <= await redis_now_ms(redis) + 1
        assert len(led.test.logged("database unavailable")) == 1


# --- all that the API server published, in its order


@pytest.mark.parametrize("run", load("events")["runs"], ids=lambda run: run["database"])
@pytest.mark.parametrize("commit", ["before", "after"])
async def test_every_recorded_event_in_its_order(
    redis: Redis, empty_sqlite_db: SqliteDatabase, run: dict[str, object], commit: str
) -> None:
    """The API server publishes before or after its commit; the schedule ends in the database's state either way."""
    rows: dict[str, bool] = {}
    steps = run["steps"]
    assert isinstance(steps, list)
    async with leader(redis, empty_sqlite_db, replace(CALM, reread_after_s=(0.05, 0.1))) as led, listening(led):
        for step in steps:
            if commit == "before":
                await committed(empty_sqlite_db, step, rows)
            for event in step["events"]:
                await redis.publish(event["channel"], event["data"])
            if commit == "after":
                await committed(empty_sqlite_db, step, rows)
            wanted = {id_ for id_, active in rows.items() if active}
            await until(lambda wanted=wanted: same(redis, wanted), f"step {step['n']}: {step['what']}")  # type: ignore[misc]
        assert not led.test.logged(DROPPED)


async def committed(database: Database, step: dict[str, object], rows: dict[str, bool]) -> None:
    """Bring the row of a step into the state that it had then."""
    id_, row = step["monitor_id"], step["row_after"]
    if not isinstance(id_, str):
        return
    if not isinstance(row, dict):
        if id_ in rows:
            await database.delete("monitors", id_)
            del rows[id_]
        return
    values = {"interval": row["interval"], "active": bool(row["active"]), "updated_at": now_utc()}
    if id_ in rows:
        await database.update("monitors", id_, **values)
    else:
        await database.insert("monitors", monitor_row(id=id_, **values))
    rows[id_] = bool(row["active"]) and int(row["interval"]) > 0


async def same(redis: Redis, wanted: set[str]) -> bool:
    return await scheduled_ids(redis) == wanted
