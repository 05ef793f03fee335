"""The peer by itself: asynq's client, inspector and server agree with what Python reads of them."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from support.asynq_peer import AsynqPeer, AsynqRefusedError, Inspection

TASK = "healthcheck:11111111-1111-4111-8111-111111111111"


def payload(**changes: object) -> str:
    """Return a payload that a worker takes, but for `changes`."""
    check = {
        "monitor_id": "11111111-1111-4111-8111-111111111111",
        "monitor_name": "front page",
        "monitor_type": "http",
        "interval": 60,
        "timeout": 20,
        "max_retries": 0,
        "retry_interval": 60,
        "resend_interval": 0,
        "config": '{"url": "https://example.org"}',
        "scheduled_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "is_under_maintenance": False,
        "check_cert_expiry": False,
    }
    return json.dumps({**check, **changes})


def in_state(state: str) -> Callable[[Inspection], bool]:
    """Return a condition: the inspected task is in `state`."""
    return lambda seen: seen.task is not None and seen.task.state == state


async def test_a_task_goes_from_client_to_inspector_to_server(asynq_peer: AsynqPeer) -> None:
    text = payload()
    await asynq_peer.enqueue(TASK, text, timeout_s=25)

    waiting = await asynq_peer.inspect(TASK)
    assert waiting.queues == ["healthcheck"]
    assert waiting.queue is not None
    assert (waiting.queue.size, waiting.queue.pending, waiting.queue.paused) == (1, 1, False)
    assert waiting.task is not None
    assert (waiting.task.id, waiting.task.state, waiting.task.payload_text) == (TASK, "pending", text)
    assert (waiting.task.timeout_s, waiting.task.retention_s, waiting.task.max_retry) == (25, 0, 0)

    async with asynq_peer.serve() as server:
        task = await server.next_task()
        await server.until(lambda: len(server.done) == 1)
        gone = await asynq_peer.inspect_until(lambda seen: seen.task is None, TASK)

    assert (task.id, task.type, task.queue) == (TASK, "monitor:healthcheck", "healthcheck")
    assert task.payload == json.loads(text)
    assert (task.parse_error, task.stale, task.retry, task.max_retry) == ("", False, 0, 0)
    assert 24_000 < task.deadline_ms - task.started_ms <= 25_000
    assert (server.done[0].id, server.done[0].error) == (TASK, "")
    assert gone.queue is not None
    assert (gone.queue.size, gone.queue.processed, gone.queue.failed) == (0, 1, 0)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"interval": 20.0}, "interval"),
        ({"timeout": "20"}, "timeout"),
        ({"check_cert_expiry": 1}, "check_cert_expiry"),
        ({"config": {"url": "x"}}, "config"),
        ({"scheduled_at": "2026-11-24T10:00:00"}, "parsing time"),
        ({"scheduled_at": "2026-11-24T10:00:00z"}, "parsing time"),
        ({"proxy": {"port": "8080"}}, "proxy.port"),
        ({"last_heartbeat": {"important": 1}}, "last_heartbeat.important"),
        ({"nobody_knows": 1, "proxy": None}, ""),
    ],
)
async def test_payloads_are_read_with_the_types_of_a_worker(
    asynq_peer: AsynqPeer, changes: dict[str, object], complaint: str
) -> None:
    await asynq_peer.enqueue(TASK, payload(**changes))
    async with asynq_peer.serve() as server:
        task = await server.next_task()
        await server.until(lambda: len(server.done) == 1)
    assert complaint in task.parse_error
    assert bool(complaint) is bool(task.parse_error)


async def test_a_check_scheduled_too_long_ago_is_stale(asynq_peer: AsynqPeer) -> None:
    long_ago = (datetime.now(UTC) - timedelta(seconds=100)).isoformat()
    await asynq_peer.enqueue("old", payload(scheduled_at=long_ago, interval=60))
    await asynq_peer.enqueue("not so old", payload(scheduled_at=long_ago, interval=120))
    async with asynq_peer.serve(concurrency=1) as server:
        assert [(task.id, task.stale) for task in (await server.next_task(), await server.next_task())] == [
            ("old", True),
            ("not so old", False),
        ]
        await server.until(lambda: len(server.done) == 2)


async def test_an_id_in_use_is_refused(asynq_peer: AsynqPeer) -> None:
    await asynq_peer.enqueue(TASK)
    with pytest.raises(AsynqRefusedError) as refusal:
        await asynq_peer.enqueue(TASK)
    assert refusal.value.kind == "task_id_conflict"


async def test_a_failed_task_without_retries_is_archived_and_keeps_its_id(asynq_peer: AsynqPeer) -> None:
    await asynq_peer.enqueue(TASK)
    async with asynq_peer.serve(fail=True) as server:
        await server.next_task()
        seen = await asynq_peer.inspect_until(in_state("archived"), TASK)
    assert seen.task is not None
    assert seen.task.last_error == "failed as asked"
    with pytest.raises(AsynqRefusedError):
        await asynq_peer.enqueue(TASK)


async def test_a_task_is_cancelled_at_its_own_timeout(asynq_peer: AsynqPeer) -> None:
    await asynq_peer.enqueue(TASK, timeout_s=1)
    async with asynq_peer.serve(delay_ms=60_000) as server:
        await server.until(lambda: [done.cancelled for done in server.done] == [True])
        await asynq_peer.inspect_until(in_state("archived"), TASK)


async def test_every_other_state_can_be_made(asynq_peer: AsynqPeer) -> None:
    await asynq_peer.enqueue("scheduled", delay_s=3600)
    await asynq_peer.enqueue("aggregating", group="g")
    await asynq_peer.enqueue("archived")
    await asynq_peer.archive("archived")
    for state in ("scheduled", "aggregating", "archived"):
        assert in_state(state)(await asynq_peer.inspect(state))

    await asynq_peer.enqueue("completed", retention_s=3600)
    async with asynq_peer.serve() as server:
        await server.next_task()
        await asynq_peer.inspect_until(in_state("completed"), "completed")
    await asynq_peer.enqueue("retry", max_retry=5)
    async with asynq_peer.serve(fail=True) as server:
        await server.next_task()
        await asynq_peer.inspect_until(in_state("retry"), "retry")

    await asynq_peer.run("scheduled")
    assert in_state("pending")(await asynq_peer.inspect("scheduled"))
    await asynq_peer.delete("scheduled")
    assert (await asynq_peer.inspect("scheduled")).task is None


async def test_a_paused_queue_waits(asynq_peer: AsynqPeer) -> None:
    await asynq_peer.enqueue(TASK)
    await asynq_peer.pause()
    async with asynq_peer.serve() as server:
        paused = await asynq_peer.inspect(TASK)
        assert paused.queue is not None
        assert paused.queue.paused
        assert server.tasks == []
        await asynq_peer.unpause()
        await server.next_task()
        await server.until(lambda: len(server.done) == 1)


async def test_a_killed_server_leaves_its_task_active(asynq_peer: AsynqPeer) -> None:
    await asynq_peer.enqueue(TASK)
    async with asynq_peer.serve(delay_ms=60_000) as server:
        await server.next_task()
        await server.kill()
        assert in_state("active")(await asynq_peer.inspect(TASK))
        with pytest.raises(RuntimeError, match="it ended"):
            await server.next_task()


async def test_a_live_server_announces_itself_and_what_it_runs(asynq_peer: AsynqPeer) -> None:
    await asynq_peer.enqueue(TASK)
    async with asynq_peer.serve(delay_ms=60_000) as server:
        await server.next_task()
        seen = await asynq_peer.inspect_until(lambda seen: any(TASK in peer.tasks for peer in seen.servers))
    assert [peer.pid for peer in seen.servers] == [server.pid]


async def test_a_stopped_server_puts_running_tasks_back(asynq_peer: AsynqPeer) -> None:
    await asynq_peer.enqueue(TASK)
    async with asynq_peer.serve(delay_ms=60_000) as server:
        await server.next_task()
    seen = await asynq_peer.inspect(TASK)
    assert in_state("pending")(seen)
    assert seen.servers == []


async def test_waiting_for_what_does_not_come_says_what_came(asynq_peer: AsynqPeer) -> None:
    async with asynq_peer.serve() as server:
        with pytest.raises(TimeoutError, match="0 tasks begun"):
            await server.next_task(timeout_s=0.05)


async def test_many_tasks_are_all_seen(asynq_peer: AsynqPeer) -> None:
    async with asynq_peer.serve() as server:
        await asyncio.gather(*(asynq_peer.enqueue(f"t{n}", payload(config="x" * 10_000)) for n in range(30)))
        await server.until(lambda: len(server.done) == 30)
    assert {task.id for task in server.tasks} == {f"t{n}" for n in range(30)}
