"""A node that is cut off from its database, beside one that is not: nobody gets to see old configuration."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from redis.asyncio import Redis

from peekaping_producer.demo.clock import now_ms
from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.fleet.registry import Registry
from peekaping_producer.timing import Timing
from support.api_events import publish_created
from support.breaking_proxy import breaking_proxy
from support.databases import PostgresDatabase, monitor_row
from support.fleet import addressed
from support.producer import Producer, started
from support.task_consumer import Consumed, consuming
from support.waiting import until

PERIOD_S = 6
CUT_OFF_MS = 22_000
FRESH_WITHIN_MS = 3_000
NEW_WITHIN_MS = 15_000


@pytest.mark.long
@pytest.mark.parametrize("who", ["leader", "follower"])
async def test_a_node_without_its_database_leaves_the_checks_to_one_that_has_it(
    empty_postgres_db: PostgresDatabase,
    redis: Redis,
    redis_server: RedisServer,
    tmp_path: Path,
    who: str,
) -> None:
    rows = [monitor_row(interval=PERIOD_S, name="before") for _ in range(90)]
    push = [monitor_row(interval=PERIOD_S, name="before", type="push") for _ in range(10)]
    await empty_postgres_db.insert("monitors", *rows, *push)
    ids = {row["id"] for row in (*rows, *push)}
    healthy_address = addressed(empty_postgres_db, redis_server.port)
    async with breaking_proxy(empty_postgres_db.server.port) as proxy, consuming(redis) as tasks:
        addresses = [healthy_address | {"DB_PORT": proxy.port}, healthy_address]
        if who == "follower":
            addresses.reverse()
        async with started(tmp_path, **addresses[0]) as first:
            await first.until_logged("leadership taken")
            async with started(tmp_path, **addresses[1]) as second:
                await second.until_logged("another node leads")
                cut_off, healthy = (first, second) if who == "leader" else (second, first)
                await until_knows(redis, cut_off, tasks, ids)
                proxy.stall()
                cut_ms = now_ms()
                await empty_postgres_db.execute("UPDATE monitors SET name = 'after', updated_at = now()")
                edited_ms = now_ms()
                new = monitor_row(interval=PERIOD_S, name="after", created_at=datetime.now(UTC))
                await empty_postgres_db.insert("monitors", new)
                await publish_created(redis, new)
                await until(lambda: past(cut_ms + CUT_OFF_MS), "the time is over", CUT_OFF_MS / 1000 + 5)
                ended_ms = now_ms()
                assert await trouble(redis) == 1
                proxy.flow()
                await cut_off.until_logged("database recovered")
                await healthy.stop()
                back_ms = now_ms()
                await until(lambda: ran_since(tasks, ids, back_ms), "the node is back")

    later = [task for task in tasks if edited_ms + FRESH_WITHIN_MS < task.taken_ms < ended_ms]
    old = [task for task in later if task.name == "before"]
    assert len(later) > 100
    assert len(old) <= 0.02 * len(later), f"{len(old)} of {len(later)}: {old[:5]}"
    assert too_far(tasks, [row["id"] for row in push], cut_ms - PERIOD_S * 1000, ended_ms) == []
    assert too_far(tasks, [row["id"] for row in rows], cut_ms - PERIOD_S * 1000, ended_ms) == []
    new_after_ms = min(task.taken_ms for task in tasks if task.monitor_id == new["id"]) - edited_ms
    assert new_after_ms < NEW_WITHIN_MS, f"{cut_off.lines}, {healthy.lines}"
    resigned = [line for line in cut_off.logged("leadership resigned") if line["level"] == "warning"]
    assert len(resigned) == (who == "leader")


async def until_knows(redis: Redis, node: Producer, tasks: list[Consumed], ids: set[str]) -> None:
    """Wait until a node has read about every monitor, whatever others do: it has placed several times as many."""

    async def has() -> bool:
        nodes = await Registry(redis, Timing()).nodes()
        return any(f"-{node.pid}-" in one.id and one.checks >= len(ids) for one in nodes)

    await until(has, "it has placed many checks", 60)
    since_ms = now_ms()
    await until(lambda: ran_since(tasks, ids, since_ms), "all ran")


async def trouble(redis: Redis) -> int:
    return sum(one.database_problem is not None for one in await Registry(redis, Timing()).nodes())


async def past(at_ms: int) -> bool:
    return now_ms() > at_ms


async def ran_since(tasks: list[Consumed], ids: set[str], since_ms: int) -> bool:
    return {task.monitor_id for task in tasks if task.scheduled_ms > since_ms} >= ids


def too_far(tasks: list[Consumed], ids: Sequence[str], since_ms: int, until_ms: int) -> list[str]:
    """Return a line for each two checks of a monitor that are further apart than one and a half periods."""
    found = []
    for id_ in ids:
        ran = [task.scheduled_ms for task in tasks if task.monitor_id == id_ and since_ms <= task.scheduled_ms]
        instants = [*sorted(at for at in ran if at <= until_ms), until_ms]
        found += [f"{id_}: {b - a:.0f} ms" for a, b in pairwise(instants) if b - a > 1_500 * PERIOD_S]
    return found
