"""Whether anybody takes checks from the queue: logged when that stops and when it goes on, and shown by `status`."""

import json
import time
import uuid

import pytest
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.message import encode_task, task_id
from peekaping_producer.asynq.queue import (
    NO_WORKER,
    PAUSED,
    TOO_SLOW,
    QueueState,
    TaskState,
    Waiting,
    complaints,
    queue_state,
    task_state,
)
from peekaping_producer.asynq.server_state_pb2 import ServerInfo
from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.errors import Unavailable
from peekaping_producer.leader.queue_watch import QueueWatch
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.timing import Timing
from support.asynq_states import put_active, put_in_set, put_malformed, put_pending, task_key
from support.nodes import LONG_S, TestNode, a_term, connected, running
from support.redis_time import redis_now_ms

MONITOR = MonitorId("11111111-1111-4111-8111-111111111111")
TROUBLE, OVER = "queue trouble started", "queue trouble ended"
WITHIN_S = 10.0


async def put_server(redis: Redis, *queues: str, expires_in_s: float = 60, record: bytes | None = None) -> str:
    """Announce a worker process that takes from these queues, as asynq does."""
    server_id = str(uuid.uuid4())
    info = ServerInfo(host="worker", pid=7, server_id=server_id, concurrency=10, status="active")
    for queue in queues:
        info.queues[queue] = 1
    key = f"{keys.SERVERS}:{{worker:7:{server_id}}}"
    await redis.set(key, info.SerializeToString() if record is None else record)
    await redis.zadd(keys.SERVERS, {key: time.time() + expires_in_s})
    return key


async def put_waiting(redis: Redis, waits_s: float, interval_s: int = 60, monitor: MonitorId = MONITOR) -> None:
    """Put a task of ours that has been pending for this long."""
    payload = json.dumps({"monitor_id": monitor, "interval": interval_s, "scheduled_at": "2026-01-02T03:04:05Z"})
    since_ns = (await redis_now_ms(redis) - int(waits_s * 1000)) * 1_000_000
    message = encode_task(monitor, 20, payload.encode())
    await redis.hset(task_key(monitor), mapping={"msg": message, "state": "pending", "pending_since": since_ns})
    await redis.lpush(keys.PENDING, task_id(monitor))


async def state_of(redis: Redis) -> QueueState:
    return await queue_state(redis, WITHIN_S)


# --- the state


async def test_an_empty_queue(redis: Redis) -> None:
    assert await state_of(redis) == QueueState(False, 0, 0, 0, 0, 0, 0, 0, None)


async def test_all_that_a_queue_holds_is_counted(redis: Redis) -> None:
    ids = [MonitorId(str(uuid.UUID(int=n + 1))) for n in range(15)]
    for id_ in ids[:3]:
        await put_pending(redis, id_)
    for id_ in ids[3:5]:
        await put_active(redis, id_, lease_s=time.time() + 30)
    await put_in_set(redis, ids[5], "scheduled")
    for id_ in ids[6:8]:
        await put_in_set(redis, id_, "retry")
    for id_ in ids[8:11]:
        await put_in_set(redis, id_, "archived")
    for id_ in ids[11:15]:
        await put_in_set(redis, id_, "completed")
    await redis.set(keys.PAUSED, 1)
    state = await state_of(redis)
    figures = (state.paused, state.pending, state.active, state.scheduled, state.retry, state.archived, state.completed)
    assert figures == (True, 3, 2, 1, 2, 3, 4)


async def test_only_live_servers_of_our_queue_are_workers(redis: Redis) -> None:
    for queues in (("healthcheck",), ("other", "healthcheck"), ("healthcheck", "low")):
        await put_server(redis, *queues)
    await put_server(redis, "other")
    await put_server(redis)
    await redis.delete(await put_server(redis, "healthcheck"))
    assert (await state_of(redis)).workers == 3


@pytest.mark.parametrize("expires_in_s", [-3600, 3600])
async def test_a_server_lives_as_long_as_its_record_whatever_its_clock_says(redis: Redis, expires_in_s: float) -> None:
    for _ in range(1_100):  # servers that died, and were never taken out of the set
        await redis.delete(await put_server(redis, "healthcheck", expires_in_s=-7200))
    await put_server(redis, "healthcheck", expires_in_s=expires_in_s)
    assert (await state_of(redis)).workers == 1


@pytest.mark.parametrize("record", [b"\xff\xff\xff", b"", b"{}", b"\x0a\xff", b"text"])
async def test_an_invalid_server_record_is_not_a_worker(redis: Redis, record: bytes) -> None:
    await put_server(redis, record=record)
    await put_server(redis, "healthcheck")
    assert (await state_of(redis)).workers == 1


async def test_the_oldest_task_is_the_one_that_workers_take_next(redis: Redis) -> None:
    oldest, newer = MonitorId(str(uuid.UUID(int=1))), MonitorId(str(uuid.UUID(int=2)))
    await put_waiting(redis, 100, 60, oldest)
    await put_waiting(redis, 5, 20, newer)
    oldest_now = (await state_of(redis)).oldest
    assert oldest_now is not None
    assert (oldest_now.monitor_id, oldest_now.interval_s) == (oldest, 60)
    assert 99 <= oldest_now.age_s < 160


DEEP = b'{"monitor_id": "' + MONITOR.encode() + b'", "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    "message",
    [
        *(b"", b"\xff\xff", b"\x0a"),
        encode_task(MONITOR, 20, b""),
        encode_task(MONITOR, 20, b"{"),
        encode_task(MONITOR, 20, b"\xff"),
        encode_task(MONITOR, 20, b'{"monitor_id": "\xff"}'),
        encode_task(MONITOR, 20, b'{"interval": "20"}'),
        encode_task(MONITOR, 20, b"[1]"),
        pytest.param(encode_task(MONITOR, 20, DEEP), id="nested without end"),
    ],
)
async def test_the_age_of_a_task_with_an_unreadable_message_is_reported(redis: Redis, message: bytes) -> None:
    await put_waiting(redis, 100)
    await redis.hset(task_key(MONITOR), "msg", message)
    oldest = (await state_of(redis)).oldest
    assert oldest is not None
    assert oldest.age_s >= 99
    assert (oldest.monitor_id, oldest.interval_s) == ("", 0)


@pytest.mark.parametrize("since", [None, b"", b"-5", b"soon", b"1.5", b"\xff"])
async def test_a_task_without_an_age_is_not_the_oldest(redis: Redis, since: bytes | None) -> None:
    await put_waiting(redis, 100)
    if since is None:
        await redis.hdel(task_key(MONITOR), "pending_since")
    else:
        await redis.hset(task_key(MONITOR), "pending_since", since)
    state = await state_of(redis)
    assert (state.pending, state.oldest) == (1, None)


async def test_a_listed_task_without_a_hash_is_not_the_oldest(redis: Redis) -> None:
    await redis.lpush(keys.PENDING, b"healthcheck:\xff")
    assert (await state_of(redis)).oldest is None


async def test_a_queue_without_redis_is_unavailable(own_redis_server: RedisServer) -> None:
    async with connected(own_redis_server.port) as client:
        own_redis_server.pause()
        with pytest.raises(Unavailable):
            await queue_state(client, 0.3)
        with pytest.raises(Unavailable):
            await task_state(client, MONITOR, 0.3)


# --- one task


async def test_no_task(redis: Redis) -> None:
    assert await task_state(redis, MONITOR, WITHIN_S) is None


async def test_a_pending_task(redis: Redis) -> None:
    await put_waiting(redis, 100)
    state = await task_state(redis, MONITOR, WITHIN_S)
    assert state is not None
    assert (state.state, state.lease_left_s) == ("pending", None)
    assert state.pending_s is not None
    assert 99 <= state.pending_s < 160


@pytest.mark.parametrize("left_s", [30, -30])
async def test_an_active_task_and_its_worker_s_lease(redis: Redis, left_s: int) -> None:
    await put_active(redis, MONITOR, lease_s=await redis_now_ms(redis) // 1000 + left_s)
    state = await task_state(redis, MONITOR, WITHIN_S)
    assert state is not None
    assert state.state == "active"
    assert state.lease_left_s is not None
    assert left_s - 60 <= state.lease_left_s <= left_s


@pytest.mark.parametrize("how", ["no msg", "empty msg", "no state", "unknown state"])
async def test_a_broken_task_is_shown_as_it_is(redis: Redis, how: str) -> None:
    await put_malformed(redis, MONITOR, how)  # type: ignore[arg-type]
    state = await task_state(redis, MONITOR, WITHIN_S)
    states = {"no msg": "pending", "empty msg": "archived", "no state": "none", "unknown state": "pondering"}
    assert state == TaskState(states[how], state.pending_s if state else None, None)


# --- what is complained of


@pytest.mark.parametrize(
    ("paused", "workers", "age_s", "interval_s", "complaint"),
    [
        (False, 1, 0, 60, []),
        (False, 1, 60, 60, []),
        (False, 1, 60.1, 60, [TOO_SLOW]),
        (False, 1, 10**6, 0, []),
        (False, 0, 0, 60, [NO_WORKER]),
        (False, 0, 100, 60, [NO_WORKER]),
        (True, 1, 100, 60, [PAUSED]),
        (True, 0, 100, 60, [PAUSED]),
    ],
)
def test_the_first_reason_is_the_one_that_is_logged(
    paused: bool, workers: int, age_s: float, interval_s: int, complaint: list[str]
) -> None:
    waiting = Waiting(MONITOR, age_s, interval_s)
    assert complaints(QueueState(paused, workers, 1, 0, 0, 0, 0, 0, waiting)) == complaint
    if complaint != [TOO_SLOW]:
        assert complaints(QueueState(paused, workers, 0, 0, 0, 0, 0, 0, None)) == complaint


# --- the duty


QUICK = Timing(queue_every_s=0.02, redis_timeout_s=10)


class Watched:
    """A node's watch over the queue, and what it has logged."""

    def __init__(self, redis: Redis, timing: Timing = QUICK) -> None:
        self.test = TestNode(timing)
        self.watch = QueueWatch(self.test.node, redis)

    @property
    def logged(self) -> list[tuple[str, str]]:
        return [(line["event"], line["what"]) for line in self.test.lines]

    async def look(self, redis: Redis) -> None:
        self.watch._report(await state_of(redis))


async def test_trouble_and_its_end_are_logged_once_each(redis: Redis) -> None:
    watched = Watched(redis)
    async with running(watched.watch.run(a_term())):
        await watched.test.until_logged(TROUBLE)
        server = await put_server(redis, "healthcheck")
        await watched.test.until_logged(OVER)
        await redis.set(keys.PAUSED, 1)
        await watched.test.until_logged(TROUBLE, 2)
        await redis.delete(keys.PAUSED)
        await watched.test.until_logged(OVER, 2)
        await put_waiting(redis, 100, 60)
        await watched.test.until_logged(TROUBLE, 3)
        await redis.delete(keys.PENDING)
        await watched.test.until_logged(OVER, 3)
        await redis.delete(server)
        await watched.test.until_logged(TROUBLE, 4)
    whats = (NO_WORKER, PAUSED, TOO_SLOW)
    assert watched.logged == [*((event, what) for what in whats for event in (TROUBLE, OVER)), (TROUBLE, NO_WORKER)]
    levels = {line["event"]: line["level"] for line in watched.test.lines}
    assert levels == {TROUBLE: "warning", OVER: "info"}
    assert {"pending", "workers"} <= watched.test.lines[0].keys()


async def test_lasting_trouble_is_logged_once(redis: Redis) -> None:
    watched = Watched(redis)
    for _ in range(20):
        await watched.look(redis)
    assert watched.logged == [(TROUBLE, NO_WORKER)]


async def test_a_worker_that_is_missing_from_one_poll_is_not_reported(redis: Redis) -> None:
    watched = Watched(redis)
    for _ in range(5):
        await watched.look(redis)
        server = await put_server(redis, "healthcheck")
        await watched.look(redis)
        await redis.delete(server)
    assert watched.logged == []


async def test_one_trouble_after_another(redis: Redis) -> None:
    watched = Watched(redis)
    for _ in range(2):
        await watched.look(redis)
    await redis.set(keys.PAUSED, 1)
    for _ in range(2):
        await watched.look(redis)
    await redis.delete(keys.PAUSED)
    await put_server(redis, "healthcheck")
    await watched.look(redis)
    assert watched.logged == [(TROUBLE, NO_WORKER), (OVER, NO_WORKER), (TROUBLE, PAUSED), (OVER, PAUSED)]


async def test_a_queue_that_is_worked_on_is_not_spoken_of(redis: Redis) -> None:
    await put_server(redis, "healthcheck")
    await put_waiting(redis, 5, 60)
    watched = Watched(redis)
    for _ in range(5):
        await watched.look(redis)
    assert watched.logged == []


async def test_the_watch_ends_with_the_term(redis: Redis) -> None:
    watched = Watched(redis, Timing(queue_every_s=LONG_S, redis_timeout_s=10))
    term = a_term()
    async with running(watched.watch.run(term)) as (duty,):
        term.ended.set()
        await duty


async def test_something_else_in_a_tasks_place_hides_nothing_but_itself(redis: Redis) -> None:
    await redis.lpush(keys.PENDING, task_id(MONITOR))
    await redis.set(task_key(MONITOR), "x")
    state = await state_of(redis)
    assert (state.pending, state.oldest) == (1, None)
    task = await task_state(redis, MONITOR, 2)
    assert task is not None
    assert task.state == "malformed"
