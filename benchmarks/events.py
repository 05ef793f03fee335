"""A burst of the API server's events: how soon the leader has acted on all of them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
from redis import Redis

from benchmarks.database import COLUMNS, Database, connect_postgres, make_rows, postgres_database
from benchmarks.figures import Case, cost, rate
from benchmarks.part import FAR_INTERVAL_S, HERD_INTERVAL_S, IDLE_MONITORS, Bench, Part
from benchmarks.producer import Producer, log_lines, running_producer, wait_until
from benchmarks.steady import scheduled
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.leader.event_message import CREATED, DELETED

_Round = tuple[float, float]
"""Events per second, and the leader's CPU time for each in microseconds."""


def measure(bench: Bench) -> Iterator[Case]:
    """Create monitors and delete them again: each time all rows are written first, then the events published."""
    rounds: dict[str, list[_Round]] = {"created": [], "deleted": []}
    with (
        postgres_database(IDLE_MONITORS, FAR_INTERVAL_S) as database,
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port) as redis,
        running_producer(database, server.port, LOG_LEVEL="debug") as producer,
    ):
        wait_until(lambda: bool(log_lines(producer.log, "sweep finished")), "the first sweep is done")
        for _ in range(bench.size.rounds):
            rows = make_rows(bench.size.events, HERD_INTERVAL_S)["monitors"]
            ids = [str(row[0]) for row in rows]
            asyncio.run(_insert(database, rows))
            created = [json.dumps({"type": "monitor.created", "payload": {"id": id_, "active": True}}) for id_ in ids]
            rounds["created"].append(_burst(redis, producer, CREATED, created, IDLE_MONITORS + len(ids)))
            asyncio.run(_delete(database, ids))
            deleted = [json.dumps({"type": "monitor.deleted", "payload": id_}) for id_ in ids]
            rounds["deleted"].append(_burst(redis, producer, DELETED, deleted, IDLE_MONITORS))
    for name, acted in rounds.items():
        figures = {
            "events_acted_on": rate([per_s for per_s, _ in acted]),
            "leader_cpu": cost([us for _, us in acted], "µs an event"),
        }
        yield Case(f"postgres, {bench.size.events:,} monitors {name}", figures)


PART = Part("events", "a burst of events, until the leader has acted on the last", 15, measure)


def _burst(redis: Redis, producer: Producer, channel: str, messages: Sequence[str], expected: int) -> _Round:
    """Publish all, and wait until `expected` monitors are in the schedule."""
    before, began_s = producer.cost(), time.monotonic()
    with redis.pipeline(transaction=False) as pipe:
        for message in messages:
            pipe.publish(channel, message)
        pipe.execute()
    wait_until(lambda: scheduled(redis) == expected, "all events are acted on", 0.005)
    took_s = time.monotonic() - began_s
    return len(messages) / took_s, (producer.cost().cpu_s - before.cpu_s) * 1e6 / len(messages)


async def _insert(database: Database, rows: Sequence[tuple[object, ...]]) -> None:
    async with _connected(database) as connection:
        await connection.copy_records_to_table("monitors", records=rows, columns=COLUMNS["monitors"].split())


async def _delete(database: Database, ids: Sequence[str]) -> None:
    async with _connected(database) as connection:
        await connection.execute("DELETE FROM monitors WHERE id = ANY($1::uuid[])", ids)


@asynccontextmanager
async def _connected(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect_postgres(database.settings)
    try:
        yield connection
    finally:
        await connection.close()
