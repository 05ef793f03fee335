"""With the extra `otel` and a collector, each batch is a trace; whatever the collector does, checks go on."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.message import task_id
from peekaping_producer.asynq.task_message_pb2 import TaskMessage
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.timing import Timing
from peekaping_producer.tracing.wanted import endpoint, unknown_protocol
from support.asynq_peer import AsynqPeer
from support.databases import SqliteDatabase, monitor_row
from support.fleet import addressed
from support.otlp_collector import collecting
from support.producer import producing, started
from support.waiting import until

MONITOR = "11111111-1111-4111-8111-111111111111"
AT_ONCE = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5"}


@pytest.fixture
async def variables(empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis) -> dict[str, Any]:
    """Return those of a node with one monitor, which is due every second."""
    await empty_sqlite_db.insert("monitors", monitor_row(id=MONITOR, interval=1))
    return {**addressed(empty_sqlite_db, redis_server.port), "LOG_LEVEL": "debug", **AT_ONCE}


async def test_a_batch_is_a_span_with_its_stages_and_its_tasks_name_it(
    variables: dict[str, Any], asynq_peer: AsynqPeer, tmp_path: Path
) -> None:
    """The worker here is asynq's own, of the version that knows headers."""
    with collecting() as collector:
        secret = {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=hush", "OTEL_RESOURCE_ATTRIBUTES": "deployment=here"}
        variables |= {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:hush@127.0.0.1:{collector.port}"} | secret
        async with asynq_peer.serve() as server, started(tmp_path, **variables) as producer:
            assert (await producer.until_logged("trace export started"))["address"] == f"127.0.0.1:{collector.port}"
            batch = await collector.until_whole()
            await server.until(lambda: len(server.done) > 0)
            assert await producer.stop() == 0
    assert batch.name == "batch"
    attributes = {one.key: one.value.int_value for one in batch.attributes}
    assert attributes == {"peekaping.checks": 1, "peekaping.outcome.enqueued": 1}
    stages = collector.stages(batch)
    assert [stage.name for stage in stages] == ["claim", "read", "plan", "settle"]
    assert {stage.trace_id for stage in stages} == {batch.trace_id}
    times = [(stage.start_time_unix_nano, stage.end_time_unix_nano) for stage in stages]
    assert all(began <= ended for began, ended in times)
    assert times[0][0] == batch.start_time_unix_nano
    assert times[-1][1] == batch.end_time_unix_nano
    ids = {(span.trace_id.hex(), span.span_id.hex()) for span in collector.batches}
    ((name, traceparent),) = (server.tasks[0].headers or {}).items()
    assert name == "traceparent"
    version, *of_span, flags = traceparent.split("-")
    assert (version, int(flags, 16) & 1) == ("00", 1)
    assert tuple(of_span) in ids
    assert (server.tasks[0].parse_error, server.done[0].error) == ("", "")
    assert collector.headers[0]["api-key"] == "hush"
    resource = collector.resources[0]
    assert resource["service.name"] == "peekaping-producer"
    assert resource["service.instance.id"] == producer.lines[-1]["node"]
    assert resource["deployment"] == "here"
    assert "hush" not in f"{producer.lines}{producer.err}"
    # The last batches are sent at the end.
    assert len(collector.batches) >= sum(line["batches"] for line in producer.logged("batches settled"))


@pytest.mark.parametrize("fault", ["refuses", "silent", "status"])
async def test_a_collector_that_fails_disturbs_no_check_and_is_logged_once(
    fault: str, variables: dict[str, Any], redis: Redis, tmp_path: Path
) -> None:
    reasons = {"refuses": "cannot connect", "silent": "no answer in time", "status": "HTTP 401"}
    with collecting() as collector:
        collector.silent = fault == "silent"
        collector.status = 401 if fault == "status" else 200
        port = 1 if fault == "refuses" else collector.port
        variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{port}"
        async with started(tmp_path, **variables) as producer:
            assert (await producer.until_logged("trace export failed"))["reason"] == reasons[fault]
            settled = len(producer.logged("batches settled"))
            await producer.until_logged("batches settled", settled + 3)
            assert len(producer.logged("trace export failed")) == 1
            if fault == "status":
                collector.status = 200
                await producer.until_logged("trace export recovered")
            # Even while a request is under way.
            assert await producer.stop() == 0
    assert [line for line in producer.lines if line["event"].startswith("library")] == []
    assert producer.logged("summary")[-1]["lateness_p99_ms"] < 1000


async def test_without_a_collector_a_task_has_no_header(
    variables: dict[str, Any], redis: Redis, tmp_path: Path
) -> None:
    async with started(tmp_path, **variables) as producer:
        await until(lambda: redis.llen(keys.PENDING), "a task is pending")
        message = await redis.hget(keys.TASK + task_id(MonitorId(MONITOR)), "msg")
        assert isinstance(message, bytes)
        assert await producer.stop() == 0
    assert not TaskMessage.FromString(message).headers
    assert [event for event in producer.events if event.startswith("trace")] == []


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "the protocol grpc is not supported, only http/protobuf"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, "a variable that begins with OTEL_ has a value that OpenTelemetry refuses"),
    ],
)
async def test_what_cannot_work_is_logged_and_checks_go_on(
    wrong: dict[str, str], reason: str, variables: dict[str, Any], tmp_path: Path
) -> None:
    variables |= {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"} | wrong
    async with started(tmp_path, **variables) as producer:
        assert (await producer.until_logged("trace export not started"))["reason"] == reason
        await producer.until_logged("batches settled")


async def test_without_the_extra_checks_go_on_and_the_log_says_what_to_install(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.delitem(sys.modules, "peekaping_producer.tracing.export", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=redis_server.port)
    async with producing(settings, Timing()) as producer:
        line = await producer.until_logged("trace export not started")
        assert line["reason"] == "OpenTelemetry is not installed: pip install 'peekaping-producer[otel]'"
        await producer.until_logged("leadership taken")


def test_it_is_off_unless_a_collector_is_named() -> None:
    named = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    assert endpoint({}) is None
    assert endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}) is None
    assert endpoint(named) == "http://collector:4318"
    assert endpoint(named | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://other"}) == "http://other"
    assert endpoint(named | {"OTEL_SDK_DISABLED": "true"}) is None
    assert endpoint(named | {"OTEL_TRACES_EXPORTER": "none"}) is None
    assert endpoint(named | {"OTEL_TRACES_EXPORTER": "otlp"}) is not None
    assert unknown_protocol({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}) is None


def test_nothing_of_it_is_imported_without_a_collector() -> None:
    code = (
        "import sys, peekaping_producer.__main__, peekaping_producer.launch;"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.', 'requests'))])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
