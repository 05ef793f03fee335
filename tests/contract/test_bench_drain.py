"""The drain of the benchmark: it empties the queue, and judges how late each check is from the task alone."""

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pytest
from benchmarks.drain import Drain
from redis import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.message import encode_task, task_id
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.model.cadence import cadence
from peekaping_producer.model.monitor import MonitorId

INTERVAL_S = 60
NOON_MS = 1_767_268_800_000
MONITOR = MonitorId("0c6b1f0e-4b1c-4f9f-9a43-3d3f7c2b1a01")


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Redis]:
    """Connect as the drain does; the shared server is empty at the start."""
    with Redis(host=HOST, port=redis_server.port) as client:
        client.flushall()
        yield client


def _queue(client: Redis, slot: int, claimed_after_ms: int, queued_after_ms: int) -> None:
    """Put a task in place for this slot of the monitor, claimed and queued this long after it."""
    due_ms = cadence(MONITOR, INTERVAL_S).slot_from(NOON_MS) + slot * INTERVAL_S * 1000
    claimed = datetime.fromtimestamp((due_ms + claimed_after_ms) / 1000, UTC)
    payload = {"monitor_id": MONITOR, "interval": INTERVAL_S, "scheduled_at": claimed, "other": "ignored"}
    client.hset(
        keys.TASK + task_id(MONITOR),
        mapping={
            "msg": encode_task(MONITOR, 16, msgspec.json.encode(payload)),
            "state": "pending",
            "pending_since": (due_ms + queued_after_ms) * 1_000_000,
        },
    )
    client.lpush(keys.PENDING, task_id(MONITOR))


def test_lateness_is_from_the_slot_until_the_task_was_queued(client: Redis) -> None:
    drain = Drain(client)
    for slot, late_ms in enumerate((5, 7, 40)):
        _queue(client, slot, claimed_after_ms=3, queued_after_ms=late_ms)
        assert drain.take() == 1
    seen = drain.seen()
    assert seen.checks == 3
    assert [seen.p50_ms, seen.max_ms] == pytest.approx([7, 40], abs=0.001)
    assert (seen.missed, seen.doubled) == (0, 0)


def test_slots_that_passed_are_missed_and_a_second_check_of_one_is_doubled(client: Redis) -> None:
    drain = Drain(client)
    for slot in (0, 3, 3):
        _queue(client, slot, claimed_after_ms=0, queued_after_ms=1)
        drain.take()
    seen = drain.seen()
    assert (seen.missed, seen.doubled) == (2, 1)


def test_a_check_that_is_late_by_more_than_its_interval_shows_as_missed(client: Redis) -> None:
    drain = Drain(client)
    _queue(client, 0, claimed_after_ms=0, queued_after_ms=1)
    drain.take()
    _queue(client, 1, claimed_after_ms=INTERVAL_S * 1000 + 1, queued_after_ms=INTERVAL_S * 1000 + 2)
    drain.take()
    assert drain.seen().missed == 1


def test_it_leaves_nothing_behind_but_the_count(client: Redis) -> None:
    _queue(client, 0, claimed_after_ms=0, queued_after_ms=1)
    drain = Drain(client)
    assert (drain.take(), drain.take()) == (1, 0)
    processed = keys.PENDING.removesuffix("pending") + "processed"
    assert client.keys() == [processed.encode()]
    assert client.get(processed) == b"1"


def test_each_report_begins_where_the_last_one_ended(client: Redis) -> None:
    drain = Drain(client)
    _queue(client, 0, claimed_after_ms=0, queued_after_ms=9)
    drain.take()
    assert drain.seen().checks == 1
    assert (drain.seen().checks, drain.seen().max_ms) == (0, 0)


def test_a_first_check_at_once_takes_the_place_of_the_slot_nearest_to_it(client: Redis) -> None:
    drain = Drain(client)
    _queue(client, slot=1, claimed_after_ms=-20_000, queued_after_ms=-19_999)
    drain.take()
    _queue(client, slot=2, claimed_after_ms=1, queued_after_ms=2)
    drain.take()
    seen = drain.seen()
    assert (seen.checks, seen.missed, seen.doubled) == (2, 0, 0)
