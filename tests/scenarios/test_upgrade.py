"""Both directions of docs/upgrade.md with processes: from Go producers to ours, and back.

The Go nodes are the double of `support.go_producer`, with shorter terms.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import cast

from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.model.cadence import ALIGNED_PHASE_MS
from peekaping_producer.redisdb.keys import DUE
from support.databases import Database, Row, SqliteDatabase, monitor_row
from support.fleet import Fleet, fleet
from support.go_producer import GoProcess, GoTiming, go_started
from support.redis_time import redis_now_ms
from support.waiting import until

INTERVAL_S = 4
MOST_PERIODS = 1.75
"""Two checks are at most 1.5 periods apart, plus the lateness of the second: here a second."""
GO = GoTiming(term_ms=3_000, campaign_every_s=0.5, look_every_s=0.1)


def sixty() -> list[Row]:
    return [monitor_row(interval=INTERVAL_S) for _ in range(60)]


async def two_go_nodes(stack: AsyncExitStack, port: int, database: Database) -> list[GoProcess]:
    """Start them; they end with the stack."""
    return [await stack.enter_async_context(go_started(port, database, GO)) for _ in range(2)]


async def align(nodes: Fleet, redis: Redis, rows: Sequence[Row]) -> None:
    """Replace the nodes one by one with aligned ones; wait until every monitor is due at an aligned slot."""
    for old in tuple(nodes.nodes):
        await nodes.until_at_work(await nodes.add(PRODUCER_SCHEDULE="aligned"))
        assert await old.stop() == 0
        nodes.nodes.remove(old)

    async def aligned() -> bool:
        due = cast("list[tuple[bytes, float]]", await redis.zrange(DUE, 0, -1, withscores=True))
        return len(due) == len(rows) and all(due_ms % (INTERVAL_S * 1000) == ALIGNED_PHASE_MS for _, due_ms in due)

    await until(aligned, "every slot is aligned")


async def test_from_two_go_nodes_to_two_of_ours_nothing_is_missed_or_doubled(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    rows = sixty()
    await empty_sqlite_db.insert("monitors", *rows)
    async with AsyncExitStack() as stack, fleet(tmp_path, empty_sqlite_db, redis, redis_server.port, nodes=0) as ours:
        go_nodes = await two_go_nodes(stack, redis_server.port, empty_sqlite_db)
        await ours.until_ran(rows)
        began_ms = await redis_now_ms(redis)
        await ours.until_ran(rows)

        for _ in range(2):
            await ours.until_at_work(await ours.add())
        for node in go_nodes:
            assert await node.stop() == 0
        await ours.until_led()
        await ours.until_ran(rows, 2)
        ended_ms = await redis_now_ms(redis)

        assert ours.ledger.too_close(rows, began_ms) == []
        assert ours.ledger.too_far(rows, began_ms, ended_ms, MOST_PERIODS) == []


async def go_back(ours: Fleet, stack: AsyncExitStack, redis: Redis, port: int, database: Database) -> None:
    """Start two Go nodes, and stop all of ours once both are at work."""
    await two_go_nodes(stack, port, database)

    async def at_work() -> bool:
        clients = await redis.client_list()
        return sum(client["name"] == "go-producer" and client["sub"] == "3" for client in clients) == 2

    await until(at_work, "both Go nodes listen to events, as one of their loops")
    for node in ours.nodes:
        assert await node.stop() == 0


async def test_back_to_go_nodes_no_check_is_missed_or_doubled_if_ours_are_aligned_first(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    rows = sixty()
    await empty_sqlite_db.insert("monitors", *rows)
    async with AsyncExitStack() as stack, fleet(tmp_path, empty_sqlite_db, redis, redis_server.port, nodes=2) as ours:
        await ours.begin(rows)
        await ours.until_ran(rows)
        began_ms = await redis_now_ms(redis)
        await align(ours, redis, rows)
        await go_back(ours, stack, redis, redis_server.port, empty_sqlite_db)
        await ours.until_ran(rows, 2)
        ended_ms = await redis_now_ms(redis)
        assert ours.ledger.too_close(rows, began_ms) == []
        assert ours.ledger.too_far(rows, began_ms, ended_ms, MOST_PERIODS) == []


async def test_back_to_go_nodes_from_spread_ones_some_checks_come_too_soon(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    """Why docs/upgrade.md has the step before: a Go node moves a spread monitor to the next multiple at once."""
    rows = sixty()
    await empty_sqlite_db.insert("monitors", *rows)
    async with AsyncExitStack() as stack, fleet(tmp_path, empty_sqlite_db, redis, redis_server.port, nodes=2) as ours:
        await ours.begin(rows)
        await ours.until_ran(rows)
        await go_back(ours, stack, redis, redis_server.port, empty_sqlite_db)
        await ours.until_ran(rows, 2)
        # By the instants alone: a stall of this machine excuses nothing here.
        gaps = [b - a for row in rows for a, b in pairwise(ours.ledger.scheduled(row["id"]))]
        assert any(gap_ms < INTERVAL_S * 1000 / 2 for gap_ms in gaps)
