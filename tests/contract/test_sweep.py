"""The leader brings the schedule and the database together: by sweeps, by changes, by events.

Invariants 5 (the schedule is only ever completed), 6 (a failed read is never an empty one), 7 (one bad record harms
itself) and 9 (fence).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from peekaping_producer.clock import now_utc
from peekaping_producer.config.settings import ScheduleMode
from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.errors import NotLeading, Unavailable
from peekaping_producer.leader import events as events_module
from peekaping_producer.leader import sweep as sweep_module
from peekaping_producer.leader.event_message import CREATED, DELETED, UPDATED
from peekaping_producer.leader.sync import Arrival
from peekaping_producer.model.cadence import Spacing, cadence
from peekaping_producer.model.monitor import MonitorId, Schedulable
from peekaping_producer.node.slot_spacing import SpacingChoice
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.redisdb.keys import DUE, LEADER, LEASE, REMOVED
from peekaping_producer.schedule.orders import Enqueue
from support.asynq_states import Standing, fresh_message, put_pending, score, standing
from support.databases import Database, SqliteDatabase, monitor_row, new_id, numbered_id
from support.leader_duties import CALM, Leader, leader
from support.nodes import connected, until_async
from support.producer import until
from support.redis_time import redis_now_ms
from vectors.vectors import load

SWEPT, NOTHING_SWEPT, ASIDE = "sweep finished", "sweep changed nothing", "monitors skipped as invalid"
FAR_MS = 10**13
ACTED, DROPPED = "events handled", "events dropped as invalid"


async def scheduled(redis: Redis) -> set[str]:
    """Return the ids in both sets."""
    members = [*await redis.zrange(DUE, 0, -1), *await redis.zrange(LEASE, 0, -1)]
    return {member.decode() for member in members if isinstance(member, bytes)}


def as_it_comes(_monitor: Schedulable) -> Arrival:
    return Arrival()


@asynccontextmanager
async def monitors_away(database: Database) -> AsyncIterator[None]:
    """Let every reading of monitors fail, for the time of the block."""
    await database.execute("ALTER TABLE monitors RENAME TO monitors_elsewhere")
    try:
        yield
    finally:
        await database.execute("ALTER TABLE monitors_elsewhere RENAME TO monitors")


# --- the sweep, into the schedule


@pytest.mark.parametrize("page", [1, 2, 3, 7, 1000])
async def test_a_sweep_brings_in_every_active_monitor_at_its_slot(redis: Redis, any_db: Database, page: int) -> None:
    rows = [monitor_row(interval=20 + n) for n in range(7)]
    await any_db.insert("monitors", *rows, *(monitor_row(active=False) for _ in range(3)))
    before_ms = await redis_now_ms(redis)
    async with leader(redis, any_db, replace(CALM, sweep_page=page)) as led:
        swept = await led.sweeper.sweep_once(led.term)
        after_ms = await redis_now_ms(redis)
        assert (swept.seen, swept.added, swept.moved, swept.removed, swept.invalid) == (7, 7, 0, 0, 0)
        for row in rows:
            own = cadence(row["id"], row["interval"])
            slots = {own.slot_from(at_ms) for at_ms in range(before_ms, after_ms + 1)}
            assert await score(redis, DUE, row["id"]) in slots
        again = await led.sweeper.sweep_once(led.term)
    assert await scheduled(redis) == {row["id"] for row in rows}
    assert (again.seen, again.added, again.moved, again.removed) == (7, 0, 0, 0)


async def test_a_sweep_reads_in_pages(redis: Redis, empty_sqlite_db: SqliteDatabase) -> None:
    await empty_sqlite_db.insert("monitors", *(monitor_row() for _ in range(295)))
    async with leader(redis, empty_sqlite_db, replace(CALM, sweep_page=10)) as led:
        await led.sweeper.sweep_once(led.term)
        assert led.catalog.readings["active"] == 30
        # ZSCAN gives about as many as it is asked for, never all of a large set.
        assert led.catalog.most_ids < 100


async def test_a_monitor_created_since_the_last_sweep_is_due_at_once(redis: Redis, any_db: Database) -> None:
    now = now_utc()
    old, new = monitor_row(interval=86_400), monitor_row(interval=86_400, created_at=now)
    await any_db.insert("monitors", old, new)
    async with leader(redis, any_db) as led:
        await led.sweeper.sweep_once(led.term)
        assert await score(redis, DUE, new["id"]) <= await redis_now_ms(redis) + 1
        assert await score(redis, DUE, old["id"]) == cadence(old["id"], 86_400).slot_from(
            int(await score(redis, DUE, old["id"]))
        )
        # Swept when it was new, and taken out by somebody since: it comes back at its slot.
        await redis.zrem(DUE, new["id"])
        led.sweeper._new_from = now + timedelta(seconds=1)
        await led.sweeper.sweep_once(led.term)
        due_ms = int(await score(redis, DUE, new["id"]))
        assert due_ms == cadence(new["id"], 86_400).slot_from(due_ms)


async def test_a_sweep_leaves_what_is_claimed_overdue_or_on_its_way(redis: Redis, any_db: Database) -> None:
    claimed, overdue, waiting, far = (monitor_row(id=numbered_id(n)) for n in range(1, 5))
    await any_db.insert("monitors", claimed, overdue, waiting, far)
    now_ms = await redis_now_ms(redis)
    await redis.zadd(LEASE, {claimed["id"]: now_ms + 4000})
    await redis.zadd(DUE, {overdue["id"]: now_ms - 10**6, waiting["id"]: now_ms + 45_000, far["id"]: now_ms + 10**6})
    async with leader(redis, any_db) as led:
        swept = await led.sweeper.sweep_once(led.term)
    assert (swept.seen, swept.added, swept.moved, swept.removed) == (4, 0, 1, 0)
    assert await redis.zscore(LEASE, claimed["id"]) == now_ms + 4000
    assert await redis.zscore(DUE, overdue["id"]) == now_ms - 10**6
    assert await redis.zscore(DUE, waiting["id"]) == now_ms + 45_000
    assert await score(redis, DUE, far["id"]) < now_ms + 100_000


@pytest.mark.parametrize("mode", [ScheduleMode.SPREAD, ScheduleMode.ALIGNED])
async def test_a_sweep_takes_the_slots_that_the_setting_says(
    redis: Redis, empty_sqlite_db: SqliteDatabase, mode: ScheduleMode
) -> None:
    await empty_sqlite_db.insert("monitors", *(monitor_row(interval=3600) for _ in range(20)))
    async with leader(redis, empty_sqlite_db) as led:
        led.sync._node = replace(led.test.node, spacing=SpacingChoice(mode, led.test.node.log))
        await led.sweeper.sweep_once(led.term)
    for id_ in await scheduled(redis):
        own = cadence(MonitorId(id_), 3600, Spacing(mode.value))
        assert (int(await score(redis, DUE, id_)) - own.phase_ms) % own.period_ms == 0


async def test_a_row_of_nonsense_leaves_the_schedule_and_harms_no_other(
    redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    good = [monitor_row() for _ in range(3)]
    bad = [monitor_row(interval=0), monitor_row(interval=-1), monitor_row(interval="often")]
    await empty_sqlite_db.insert("monitors", *good, *bad)
    await redis.zadd(DUE, {row["id"]: FAR_MS for row in bad})
    async with leader(redis, empty_sqlite_db, replace(CALM, sweep_page=2)) as led:
        for number in range(3):
            swept = await led.sweeper.sweep_once(led.term)
            assert (swept.seen, swept.invalid, swept.removed) == (3, 3, 0 if number else 3)
        told = [line["reasons"] for line in led.test.logged(ASIDE)]
    assert await scheduled(redis) == {row["id"] for row in good}
    assert sorted(id_ for reasons in told for id_ in reasons) == sorted(row["id"] for row in bad), "each once"


# --- the sweep, out of the schedule


@pytest.mark.parametrize("page", [1, 3, 1000])
async def test_a_sweep_takes_out_what_the_database_does_not_know(redis: Redis, any_db: Database, page: int) -> None:
    active, claimed, inactive = monitor_row(), monitor_row(), monitor_row(active=False)
    await any_db.insert("monitors", active, claimed, inactive)
    unknown = [MonitorId(new_id()) for _ in range(12)]
    await redis.zadd(DUE, {inactive["id"]: FAR_MS, **dict.fromkeys(unknown[:8], FAR_MS)})
    await redis.zadd(LEASE, {claimed["id"]: FAR_MS, **dict.fromkeys(unknown[8:], FAR_MS)})
    for id_ in (unknown[0], unknown[-1], MonitorId(inactive["id"])):
        await put_pending(redis, id_)
    await put_pending(redis, MonitorId(active["id"]))
    async with leader(redis, any_db, replace(CALM, sweep_page=page)) as led:
        swept = await led.sweeper.sweep_once(led.term)
    assert (swept.seen, swept.added, swept.removed) == (2, 1, 13)
    assert await scheduled(redis) == {active["id"], claimed["id"]}
    assert await redis.zscore(LEASE, claimed["id"]) == FAR_MS
    # Their pending tasks went too, and they are known to be gone.
    for id_ in (unknown[0], unknown[-1], MonitorId(inactive["id"])):
        assert await standing(redis, id_) == Standing({}, [], None, None)
    assert (await standing(redis, MonitorId(active["id"]))).places == ["pending"]
    assert await redis.zcard(REMOVED) == 13


async def test_ids_of_nonsense_leave_the_schedule_and_harm_no_other(
    redis: Redis, redis_server: RedisServer, any_sql_db: Database
) -> None:
    good = monitor_row(id="abcdefab-0000-4000-8000-000000000001")
    await any_sql_db.insert("monitors", good)
    nonsense = [b"", b"no-id", b"\xff\xfe", b"\x00", b"'; --", good["id"].upper().encode(), b"%s {}", b"x" * 5000]
    await redis.zadd(DUE, {**dict.fromkeys(nonsense[:4], FAR_MS), good["id"]: await redis_now_ms(redis) + 5000})
    await redis.zadd(LEASE, dict.fromkeys(nonsense[4:], FAR_MS))
    async with connected(redis_server.port) as client, leader(client, any_sql_db) as led:
        swept = await led.sweeper.sweep_once(led.term)
    assert swept.removed == len(nonsense)
    assert await scheduled(redis) == {good["id"]}


async def test_nothing_is_removed_on_a_page_that_failed(redis: Redis, any_sql_db: Database) -> None:
    await any_sql_db.insert("monitors", *(monitor_row() for _ in range(3)))
    unknown = {new_id(): FAR_MS for _ in range(30)}
    await redis.zadd(DUE, unknown)
    async with leader(redis, any_sql_db, replace(CALM, sweep_page=5)) as led:
        async with asyncio.timeout(60):
            # Readable at first: it fails just when the schedule's own ids are asked for.
            async def lose(name: str, number: int) -> None:
                if (name, number) == ("active_of", 1):
                    await any_sql_db.execute("ALTER TABLE monitors RENAME TO monitors_elsewhere")

            led.catalog.before = lose
            with pytest.raises(Unavailable):
                await led.sweeper.sweep_once(led.term)
        assert await scheduled(redis) >= unknown.keys()
        await any_sql_db.execute("ALTER TABLE monitors_elsewhere RENAME TO monitors")
        swept = await led.sweeper.sweep_once(led.term)
    assert swept.removed == 30
    assert len(await scheduled(redis)) == 3


async def test_a_sweep_whose_database_is_away_changes_nothing(redis: Redis, any_sql_db: Database) -> None:
    await any_sql_db.insert("monitors", *(monitor_row() for _ in range(3)))
    async with leader(redis, any_sql_db) as led:
        await led.sweeper.sweep_once(led.term)
        await redis.zadd(DUE, {new_id(): FAR_MS})
        before = await redis.zrange(DUE, 0, -1, withscores=True)
        async with monitors_away(any_sql_db):
            with pytest.raises(Unavailable):
                await led.sweeper.sweep_once(led.term)
        assert await redis.zrange(DUE, 0, -1, withscores=True) == before


async def test_what_was_read_before_a_page_failed_stays(redis: Redis, empty_sqlite_db: SqliteDatabase) -> None:
    await empty_sqlite_db.insert("monitors", *(monitor_row(id=numbered_id(n)) for n in range(1, 7)))
    stray = new_id()
    await redis.zadd(DUE, {stray: FAR_MS})
    async with leader(redis, empty_sqlite_db, replace(CALM, sweep_page=2)) as led:

        async def lose(name: str, number: int) -> None:
            if (name, number) == ("active", 3):
                await empty_sqlite_db.execute("ALTER TABLE monitors RENAME TO monitors_elsewhere")

        led.catalog.before = lose
        with pytest.raises(Unavailable):
            await led.sweeper.sweep_once(led.term)
    assert await scheduled(redis) == {stray, *(numbered_id(n) for n in range(1, 5))}


async def test_a_monitor_deleted_in_the_middle_of_a_sweep_does_not_come_back(redis: Redis, any_db: Database) -> None:
    rows = [monitor_row(id=numbered_id(n)) for n in range(1, 5)]
    await any_db.insert("monitors", *rows)
    async with leader(redis, any_db, replace(CALM, sweep_page=2)) as led:

        async def delete(name: str, number: int) -> None:
            if (name, number) == ("active", 1):
                await any_db.delete("monitors", rows[0]["id"])

        # Read, then deleted, then scheduled: the other half of the sweep finds it.
        led.catalog.after = delete
        await led.sweeper.sweep_once(led.term)
    assert await scheduled(redis) == {row["id"] for row in rows[1:]}


# --- the end of a term


async def test_a_sweep_stops_at_its_next_page_when_the_term_is_over(
    redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    await empty_sqlite_db.insert("monitors", *(monitor_row(id=numbered_id(n)) for n in range(1, 9)))
    stray = new_id()
    await redis.zadd(DUE, {stray: FAR_MS})
    async with leader(redis, empty_sqlite_db, replace(CALM, sweep_page=2)) as led:

        async def end(name: str, number: int) -> None:
            if (name, number) == ("active", 2):
                led.term.ended.set()

        led.catalog.after = end
        await led.sweeper.sweep_once(led.term)
        assert led.catalog.readings == {"active": 2}
    assert await scheduled(redis) == {stray, *(numbered_id(n) for n in range(1, 5))}


async def test_a_sweep_of_a_node_that_leads_no_longer_writes_nothing(
    redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    await empty_sqlite_db.insert("monitors", *(monitor_row(id=numbered_id(n)) for n in range(1, 9)))
    async with leader(redis, empty_sqlite_db, replace(CALM, sweep_page=2)) as led:

        async def freeze(name: str, number: int) -> None:
            if (name, number) == ("active", 2):
                await redis.set(LEADER, "other-1-n0")

        led.catalog.after = freeze
        with pytest.raises(NotLeading):
            await led.sweeper.sweep_once(led.term)
        assert await scheduled(redis) == {numbered_id(1), numbered_id(2)}
        before = await redis.zrange(DUE, 0, -1, withscores=True)
        ids = [MonitorId(numbered_id(1)), MonitorId(new_id())]
        for write in (
            lambda: led.sync.reconcile(led.term, ids, as_it_comes),
            lambda: led.sync.remove_unverified(led.term, ids),
            lambda: led.sync.remove_inactive(led.term, ids),
        ):
            with pytest.raises(NotLeading):
                await write()
        assert await redis.zrange(DUE, 0, -1, withscores=True) == before


# --- the duty of sweeping


async def test_the_duty_sweeps_at_once_and_whenever_it_is_asked_to(redis: Redis, any_db: Database) -> None:
    await any_db.insert("monitors", monitor_row())
    async with leader(redis, any_db) as led, led.elected(led.sweeper.duty()):
        line = await led.test.until_logged(SWEPT)
        figures = [line[name] for name in ("seen", "added", "moved", "removed", "relisted", "invalid")]
        assert figures == [1, 1, 0, 0, 0, 0]
        assert line["seconds"] >= 0
        swept = led.test.node.status.swept
        assert swept is not None
        await redis.delete(DUE)
        led.sweep_wanted.ring()
        await led.test.until_logged(SWEPT, 2)
        led.sweep_wanted.ring()
        await led.test.until_logged(NOTHING_SWEPT)
    assert len(await scheduled(redis)) == 1


async def test_a_duty_whose_database_comes_back_sweeps_then(redis: Redis, any_sql_db: Database) -> None:
    await any_sql_db.insert("monitors", monitor_row())
    async with leader(redis, any_sql_db) as led:
        async with monitors_away(any_sql_db):
            led.sweep_wanted.ring()
            election = led.elected(led.sweeper.duty())
            await election.__aenter__()
            await led.test.until_logged("database unavailable")
        try:
            await led.test.until_logged(SWEPT)
        finally:
            await election.__aexit__(None, None, None)
        assert led.test.logged("database recovered")
    assert len(await scheduled(redis)) == 1


async def test_a_long_sweep_tells_how_far_it_is(
    redis: Redis, empty_sqlite_db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "_REPORT_EVERY_S", 0)
    await empty_sqlite_db.insert("monitors", *(monitor_row() for _ in range(4)))
    async with leader(redis, empty_sqlite_db, replace(CALM, sweep_page=2)) as led:
        await led.sweeper.sweep_once(led.term)
        seen = [line["seen"] for line in led.test.logged("sweep in progress")]
    assert seen[:2] == [2, 4]


# --- changes


async def look(led: Leader) -> None:
    await led.changes.poll_once(led.term)


async def test_what_an_event_lost_is_found_by_its_time(redis: Redis, any_db: Database) -> None:
    deactivated, shorter, untouched = (monitor_row(interval=86_400) for _ in range(3))
    await any_db.insert("monitors", deactivated, shorter, untouched)
    async with leader(redis, any_db) as led:
        await led.sweeper.sweep_once(led.term)
        await put_pending(redis, MonitorId(deactivated["id"]))
        stays_ms = await score(redis, DUE, untouched["id"])
        await redis.zadd(DUE, {shorter["id"]: await redis_now_ms(redis) + 80_000_000})
        now = now_utc()
        created = monitor_row(interval=86_400, created_at=now, updated_at=now)
        await any_db.insert("monitors", created)
        await any_db.update("monitors", deactivated["id"], active=False, updated_at=now)
        await any_db.update("monitors", shorter["id"], interval=20, updated_at=now)
        await look(led)
        assert await standing(redis, MonitorId(deactivated["id"])) == Standing({}, [], None, None)
        assert await score(redis, DUE, created["id"]) <= await redis_now_ms(redis) + 1
        assert await score(redis, DUE, shorter["id"]) < await redis_now_ms(redis) + 30_001
        assert await score(redis, DUE, untouched["id"]) == stays_ms


async def test_what_was_changed_while_looks_failed_is_found_after(redis: Redis, any_db: Database) -> None:
    fresh, deactivated = monitor_row(updated_at=now_utc()), monitor_row()
    await any_db.insert("monitors", fresh, deactivated)
    async with leader(redis, any_db, replace(CALM, changes_overlap_s=0.1)) as led:
        await led.sweeper.sweep_once(led.term)
        await look(led)
        changed = now_utc()
        await any_db.update("monitors", deactivated["id"], active=False, updated_at=changed)

        async def refuse(_name: str, _number: int) -> None:
            raise Unavailable("database", "it is away")

        let = led.catalog.before
        led.catalog.before = refuse
        while now_utc() < changed + timedelta(seconds=0.3):
            with pytest.raises(Unavailable):
                await look(led)
        led.catalog.before = let
        await look(led)
    assert await scheduled(redis) == {fresh["id"]}


async def test_a_change_of_status_revokes_no_claim(redis: Redis, any_db: Database) -> None:
    """Each change of a monitor's status moves `updated_at`, and none of them is an edit."""
    row = monitor_row()
    await any_db.insert("monitors", row)
    await redis.zadd(DUE, {row["id"]: 1})
    async with leader(redis, any_db) as led:
        claim = await led.schedule.claim(1)
        await any_db.update("monitors", row["id"], status=0, updated_at=now_utc())
        await look(led)
        assert await redis.zscore(LEASE, row["id"]) == float(claim.token)


async def test_changes_are_read_page_by_page(redis: Redis, any_db: Database) -> None:
    now = now_utc()
    rows = [monitor_row(updated_at=now) for _ in range(7)]
    await any_db.insert("monitors", *rows, *(monitor_row() for _ in range(5)))
    async with leader(redis, any_db, replace(CALM, sweep_page=2)) as led:
        await look(led)
        assert led.catalog.readings["changed"] == 4
        assert led.catalog.most_ids <= 2
    assert await scheduled(redis) == {row["id"] for row in rows}


@pytest.mark.parametrize("behind", [timedelta(hours=-1), timedelta(), timedelta(minutes=5), timedelta(hours=26)])
async def test_a_clock_of_the_database_s_that_is_behind_or_ahead_loses_no_change(
    redis: Redis, any_db: Database, behind: timedelta
) -> None:
    def by_its_clock() -> datetime:
        return now_utc() - behind

    row = monitor_row(created_at=by_its_clock(), updated_at=by_its_clock())
    await any_db.insert("monitors", row)
    async with leader(redis, any_db) as led:
        await led.sweeper.sweep_once(led.term)
        await look(led)
        await any_db.update("monitors", row["id"], active=False, updated_at=by_its_clock())
        await look(led)
        assert await scheduled(redis) == set()


async def test_a_database_long_untouched_is_no_reason_to_read_it_all_again(redis: Redis, any_db: Database) -> None:
    old, new = monitor_row(), monitor_row()
    await any_db.insert("monitors", old, new)
    async with leader(redis, any_db) as led:
        await led.sweeper.sweep_once(led.term)
        await any_db.update("monitors", new["id"], updated_at=now_utc())
        await look(led)
        # From here on the clocks are known to agree: the old one is not read again.
        await redis.delete(DUE)
        await look(led)
    assert await scheduled(redis) == {new["id"]}


async def test_the_duty_of_changes_looks_again_and_again(redis: Redis, any_sql_db: Database) -> None:
    row = monitor_row()
    await any_sql_db.insert("monitors", row)
    timing = replace(CALM, changes_every_s=0.05, share=0)
    async with leader(redis, any_sql_db, timing) as led, led.elected(led.changes.duty()):
        for active in (True, False, True):
            await any_sql_db.update("monitors", row["id"], active=active, updated_at=now_utc())
            await until_async(lambda wanted=active: holds(redis, row["id"], wanted))  # type: ignore[misc]
        async with monitors_away(any_sql_db):
            await led.test.until_logged("database unavailable")
            assert await scheduled(redis) == {row["id"]}
        await any_sql_db.update("monitors", row["id"], active=False, updated_at=now_utc())
        await until_async(lambda: holds(redis, row["id"], False))


async def holds(redis: Redis, id_: str, wanted: bool) -> bool:
    return (id_ in await scheduled(redis)) is wanted


# --- events


@asynccontextmanager
async def listening(led: Leader) -> AsyncIterator[None]:
    """Lead with the duties that hear events and act on them, from the moment the subscription stands."""
    async with led.elected(*led.events.duties()):
        await until_async(lambda: subscribed(led.redis))
        yield


async def subscribed(redis: Redis, count: int = 1) -> bool:
    return [number for _, number in await redis.pubsub_numsub(CREATED, UPDATED, DELETED)] == [count] * 3


async def publish(redis: Redis, channel: str, id_: str, **row: object) -> None:
    payload: object = id_ if channel == DELETED else {"id": id_, **row}
    message = {"type": channel.removeprefix("peekaping:events:"), "payload": payload}
    assert await redis.publish(channel, json.dumps(message)) == 1


async def acted(led: Leader, act: Callable[[], Awaitable[None]]) -> None:
    """Do something, and wait until the next event has been acted on."""
    before = len(led.test.logged(ACTED))
    await act()
    await led.test.until_logged(ACTED, before + 1)


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
        assert await scheduled(redis) == {row["id"]}
        await any_sql_db.delete("monitors", row["id"])
        await acted(led, lambda: publish(redis, DELETED, row["id"].upper()))
        assert await scheduled(redis) == set()


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
            assert await standing(redis, id_) == Standing({}, [], None, None)


async def test_a_monitor_activated_again_is_due_at_once(redis: Redis, any_db: Database) -> None:
    row = monitor_row(interval=86_400, active=False)
    await any_db.insert("monitors", row)
    async with leader(redis, any_db) as led, listening(led):
        await acted(led, lambda: publish(redis, UPDATED, row["id"], active=False))
        assert await scheduled(redis) == set()
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
        assert await scheduled(redis) == {active["id"]}


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
            await until_async(lambda: holds(redis, row["id"], True))
            assert await score(redis, DUE, row["id"]) <= await redis_now_ms(redis) + 1
            await led.test.until_logged(ACTED, 3)
    # Told as gone by the first look, at home since the second.
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
            await led.test.until_logged(ACTED, 3)
    assert await scheduled(redis) == set()


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
            """Look at the lease, and claim anew what a look has revoked; the edit becomes visible before the third."""
            if name == "active_of":
                looks.append(await redis.zscore(LEASE, row["id"]))
                await led.schedule.claim(1)
                if number == 3:
                    await any_db.update("monitors", row["id"], interval=61, updated_at=now_utc())

        led.catalog.before = before
        async with listening(led):
            await publish(redis, UPDATED, row["id"])
            await led.test.until_logged(ACTED, 4)
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
        assert await scheduled(redis) == {back["id"]}


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
        await until_async(lambda: counted(redis, count))
        await until(lambda: len(led.events._reads) == 0)
        assert led.catalog.readings["active_of"] <= count / 20
        assert led.catalog.most_ids <= CALM.sweep_page
        assert sum(line["monitors"] for line in led.test.logged(ACTED)) == count


async def counted(redis: Redis, count: int) -> bool:
    return bool(await redis.zcard(DUE) == count)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"null", b'{"payload": 7}', b'{"payload": "no-id"}'])
@pytest.mark.parametrize("channel", [CREATED, UPDATED, DELETED])
async def test_an_event_of_nonsense_is_told_with_its_channel_and_dropped(
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
    assert await scheduled(redis) == {row["id"]}


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
            await until_async(lambda: subscribed(redis))
            # What is published while nobody listens is lost.
            await any_db.insert("monitors", row)
            assert await redis.client_kill_filter(_type="pubsub") == 1
            await led.test.until_logged(SWEPT)
            await until_async(lambda: subscribed(redis))
        assert led.test.logged("redis unavailable")
    assert await scheduled(redis) == {row["id"]}


# --- events while the database is away


async def test_what_an_event_says_is_gone_goes_though_the_database_is_away(redis: Redis, any_sql_db: Database) -> None:
    deleted, deactivated, edited, other = (monitor_row() for _ in range(4))
    await any_sql_db.insert("monitors", deleted, deactivated, edited, other)
    async with leader(redis, any_sql_db) as led, listening(led):
        await led.sweeper.sweep_once(led.term)
        await put_pending(redis, MonitorId(deleted["id"]))
        async with monitors_away(any_sql_db):
            await publish(redis, UPDATED, edited["id"], active=True)
            await publish(redis, UPDATED, deactivated["id"], active=False)
            await publish(redis, DELETED, deleted["id"])
            await until_async(lambda: holds(redis, deleted["id"], False))
            await until_async(lambda: holds(redis, deactivated["id"], False))
            assert await standing(redis, MonitorId(deleted["id"])) == Standing({}, [], None, None)
            # Nothing is known of these (invariant 6).
            assert await scheduled(redis) == {edited["id"], other["id"]}
        # It was said too early, or never came true: the database decides when it is back.
        await until_async(lambda: holds(redis, deleted["id"], True))
        await until(lambda: len(led.events._reads) == 0)
        assert await scheduled(redis) == {row["id"] for row in (deleted, deactivated, edited, other)}


async def test_what_an_event_says_is_gone_goes_while_readings_hang_and_no_reading_begun_before_brings_it_back(
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
        await until_async(lambda: holds(redis, deleted["id"], False))
        await any_db.delete("monitors", deleted["id"])
        answers.set()
        assert (await sweep).added == 0
        assert await scheduled(redis) == {other["id"]}


async def test_events_that_came_while_the_database_was_away_are_acted_on_when_it_is_back(
    redis: Redis, any_sql_db: Database
) -> None:
    created, deleted = monitor_row(interval=86_400), monitor_row()
    await any_sql_db.insert("monitors", deleted)
    async with leader(redis, any_sql_db) as led, listening(led):
        await led.sweeper.sweep_once(led.term)
        async with monitors_away(any_sql_db):
            await publish(redis, CREATED, created["id"], active=True)
            await led.test.until_logged("database unavailable")
            await publish(redis, DELETED, deleted["id"])
            await until_async(lambda: holds(redis, deleted["id"], False))
            await any_sql_db.insert("monitors_elsewhere", created)
            await any_sql_db.execute(f"DELETE FROM monitors_elsewhere WHERE id = '{deleted['id']}'")
        await until(lambda: len(led.events._reads) == 0)
        assert await scheduled(redis) == {created["id"]}
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
            await until_async(lambda wanted=wanted: same(redis, wanted), f"step {step['n']}: {step['what']}")  # type: ignore[misc]
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
    return await scheduled(redis) == wanted
