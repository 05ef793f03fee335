"""Our nodes beside a Go producer for a while: no check suffers from its coming, from its leading, or from its going.

The Go node is the double of `support.go_producer`; it and our nodes run with shorter durations here.
"""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.model.cadence import Spacing, cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import DUE, LEASE
from peekaping_producer.timing import Timing
from support.api_events import publish_created, publish_deleted, publish_updated
from support.databases import PostgresDatabase, Row, SqliteDatabase, monitor_row, new_id
from support.fleet import text
from support.go_producer import LEADER, GoProducer, GoTiming, go_producing, go_started
from support.ledger import Ledger, working
from support.producer import InProcess, producing
from support.redis_time import redis_now_ms
from support.schedule import scheduled_ids
from support.waiting import until

ALIGNED = "go producer detected"
SPREAD = "go producer gone"
OURS = Timing(go_seen_ms=8_000, sweep_every_s=2.0, reread_after_s=(0.5, 1.5))
"""A Go node is remembered for longer than its claims are apart, even on a busy machine."""
GO = GoTiming(lease_ms=1_000, reclaim_every_s=0.25, term_ms=3_000, campaign_every_s=0.5, look_every_s=0.1)
ZOMBIE_GONE_WITHIN_S = 30.0


class Mixed:
    """A fleet in this process: nodes of ours and a Go node come and go."""

    def __init__(self, database: SqliteDatabase, redis: Redis, port: int, ledger: Ledger) -> None:
        """Begin with no node."""
        self.redis, self.ledger = redis, ledger
        self._database, self._port = database, port

    async def ours(self, stack: AsyncExitStack) -> InProcess:
        """Start a node of ours, which ends with the stack."""
        settings = self._database.settings(redis_host=HOST, redis_port=self._port)
        return await stack.enter_async_context(producing(settings, OURS))

    async def go(self, stack: AsyncExitStack) -> GoProducer:
        """Start a Go node, which ends with the stack."""
        return await stack.enter_async_context(go_producing(self._port, self._database, GO))

    async def scores(self) -> dict[str, float]:
        """Return when each monitor is due."""
        found = cast("list[tuple[bytes, float]]", await self.redis.zrange(DUE, 0, -1, withscores=True))
        return {id_.decode(): score for id_, score in found}

    async def has_slots_of_ours(self) -> bool:
        """Return whether some monitor is due 1 ms after a whole second, where none of a Go node's slots lies."""
        return any(due_ms % 1000 == 1 for due_ms in (await self.scores()).values())

    async def until_due_by(self, rows: Sequence[Row], spacing: Spacing, *, go_slots: bool = False) -> None:
        """Wait until each monitor is due at a slot of that spacing, or at a Go node's."""

        def fits(row: Row, due_ms: float | None) -> bool:
            grid = cadence(MonitorId(row["id"]), row["interval"], spacing)
            return due_ms is not None and (
                (due_ms - grid.phase_ms) % grid.period_ms == 0 or (go_slots and due_ms % grid.period_ms == 0)
            )

        async def all_fit() -> bool:
            due_ms = await self.scores()
            return all(fits(row, due_ms.get(row["id"])) for row in rows)

        await until(all_fit, f"every monitor is due by {spacing}")


@pytest.mark.long
async def test_a_go_node_comes_leads_and_goes_and_no_check_suffers(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    rows = [monitor_row(interval=2 + number % 2) for number in range(60)]
    await empty_sqlite_db.insert("monitors", *rows)
    ids = [row["id"] for row in rows]
    async with working(redis_server.port, tmp_path) as ledger, AsyncExitStack() as all_stack:
        mixed = Mixed(empty_sqlite_db, redis, redis_server.port, ledger)
        first, go_stack = AsyncExitStack(), AsyncExitStack()
        await all_stack.enter_async_context(first)
        await all_stack.enter_async_context(go_stack)

        # We are alone, and spread.
        ours = [await mixed.ours(first), await mixed.ours(first)]
        began_ms = await redis_now_ms(redis)
        await mixed.until_due_by(rows, Spacing.SPREAD)

        # It comes, and our nodes notice.
        await mixed.go(go_stack)
        for node in ours:
            await node.until_logged(ALIGNED)
        await mixed.until_due_by(rows, Spacing.ALIGNED, go_slots=True)
        await until(mixed.has_slots_of_ours, "a slot of ours lies 1 ms after a Go node's")
        aligned_ms = await redis_now_ms(redis)
        await ledger.until_ran(ids, aligned_ms)

        # We go, and it leads.
        await first.aclose()
        await until(lambda: led_by_go(redis), "the Go node leads")
        await ledger.until_ran(ids, await redis_now_ms(redis))

        # We come back beside it, and follow.
        later = await mixed.ours(all_stack)
        await later.until_logged("another node leads")
        await ledger.until_ran(ids, await redis_now_ms(redis))
        assert await led_by_go(redis)

        # It goes, and we lead, and spread again.
        await go_stack.aclose()
        await later.until_logged("leadership taken")
        await later.until_logged(SPREAD)
        await mixed.until_due_by(rows, Spacing.SPREAD)
        await ledger.until_ran(ids, await redis_now_ms(redis))
        ended_ms = await redis_now_ms(redis)

    assert ledger.too_close(rows, aligned_ms) == []
    assert ledger.too_far(rows, began_ms, ended_ms, 2.5) == []
    for node in (*ours, later):
        assert len(node.logged(ALIGNED)) == 1
    assert len(later.logged(SPREAD)) == 1


async def led_by_go(redis: Redis) -> bool:
    """Return whether the leader's id is of a Go node's form."""
    return text(await redis.get(LEADER)).rpartition("-")[2].isdigit()


@pytest.mark.parametrize("leader", ["ours", "go"])
async def test_beside_a_go_node_everything_ends_in_the_databases_state(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path, leader: str
) -> None:
    stays, deleted, lost, deactivated = (monitor_row(interval=2) for _ in range(4))
    new = monitor_row(interval=2, created_at=datetime.now(UTC))
    await empty_sqlite_db.insert("monitors", stays, deleted, lost, deactivated)
    async with working(redis_server.port, tmp_path) as ledger, AsyncExitStack() as stack:
        mixed = Mixed(empty_sqlite_db, redis, redis_server.port, ledger)
        for start in (mixed.ours, mixed.go) if leader == "ours" else (mixed.go, mixed.ours):
            await start(stack)
            await until(lambda: redis.get(LEADER), "somebody leads")
        assert await led_by_go(redis) == (leader == "go")
        await ledger.until_ran([row["id"] for row in (stays, deleted, lost, deactivated)], 0)

        await empty_sqlite_db.insert("monitors", new)
        await publish_created(redis, new)
        await empty_sqlite_db.delete("monitors", deleted["id"])
        await publish_deleted(redis, deleted["id"])
        await empty_sqlite_db.update("monitors", deactivated["id"], active=False)
        await publish_updated(redis, deactivated, active=False)
        # No event names this one; and a Go node's leftovers, of which no row is left.
        await empty_sqlite_db.delete("monitors", lost["id"])
        await redis.zadd(DUE, {new_id(): 1})
        await redis.zadd(LEASE, {new_id(): 1})

        async def whole() -> bool:
            return await scheduled_ids(redis) == {stays["id"], new["id"]}

        async with asyncio.timeout(ZOMBIE_GONE_WITHIN_S):
            await until(whole, "no zombie is left")
        gone_ms = await redis_now_ms(redis)
        await ledger.until_ran([stays["id"], new["id"]], gone_ms, 2, 4)
        assert await whole()
        assert not any(ledger.ran_since([row["id"]], gone_ms) for row in (deleted, lost, deactivated))


async def test_a_go_leader_that_is_killed_is_replaced_and_what_it_had_claimed_comes_back(
    empty_postgres_db: PostgresDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    row, gone = monitor_row(interval=2), new_id()
    await empty_postgres_db.insert("monitors", row)
    async with working(redis_server.port, tmp_path) as ledger, AsyncExitStack() as stack:
        # It leads, and holds a claim of a monitor that it can't find.
        await redis.zadd(DUE, {gone: 1})
        go = await stack.enter_async_context(go_started(redis_server.port, empty_postgres_db, GO))
        await until(lambda: redis.zscore(LEASE, gone), "it holds a claim")
        settings = empty_postgres_db.settings(redis_host=HOST, redis_port=redis_server.port)
        ours = await stack.enter_async_context(producing(settings, OURS))
        await ours.until_logged("another node leads")
        await ledger.until_ran([row["id"]], 0)

        go.signal(signal.SIGKILL)
        await go.stop()
        await ours.until_logged("leadership taken")
        await ledger.until_ran([row["id"]], await redis_now_ms(redis), 1, 2)

        async def whole() -> bool:
            return await scheduled_ids(redis) == {row["id"]}

        await until(whole, "what it could not find is gone")
