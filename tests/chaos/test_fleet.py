"""Several nodes as one: nobody's checks notice how many there are."""

from pathlib import Path

from redis.asyncio import Redis

from peekaping_producer.embedded import EmbeddedRedis
from support.databases import Database, monitor_row
from support.fleet import fleet


async def test_two_nodes_miss_and_double_nothing(
    any_db: Database, redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path
) -> None:
    rows = [monitor_row(interval=2 + number % 3) for number in range(60)]
    await any_db.insert("monitors", *rows)
    async with fleet(tmp_path, any_db, redis, redis_server.port, nodes=2) as nodes:
        await nodes.until_whole(rows)
        await nodes.until_ran(rows, 2)
        verdict = nodes.verdict(rows)
    assert verdict.runs >= 2 * len(rows)
    assert (verdict.missed, verdict.doubled) == ((), ())
    for node in nodes.nodes:
        assert await node.ended() == 0
