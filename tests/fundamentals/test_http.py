"""A node serves probes and metrics over HTTP, and no client can disturb its checks."""

import asyncio
import logging
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from peekaping_producer.config.settings import Settings
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.redisdb.keys import DUE
from peekaping_producer.timing import Timing
from peekaping_producer.web import server
from support.databases import Database, PostgresDatabase, SqliteDatabase, monitor_row
from support.fleet import addressed
from support.http import Client, client_of
from support.postgres import Postgres
from support.producer import InProcess, producing, run_to_the_end, started
from support.programs import needed
from support.server_process import free_port
from support.waiting import until

QUICK = Timing(figures_kept_s=0, turns_reported_every_s=0.05)
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PREFIX = "peekaping_producer_"


def served_by(database: Database, redis_port: int, **others: Any) -> Settings:
    """Return the settings of a node with HTTP on a free port."""
    return database.settings(redis_host=HOST, redis_port=redis_port, producer_http_port=free_port(), **others)


def port_of(settings: Settings) -> int:
    assert settings.producer_http_port is not None
    return settings.producer_http_port


@asynccontextmanager
async def serving(settings: Settings, timing: Timing = QUICK) -> AsyncIterator[tuple[InProcess, Client]]:
    """Run a node, and connect to it."""
    async with producing(settings, timing) as producer, client_of(port_of(settings)) as client:
        yield producer, client


@pytest.fixture
def settings(empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis) -> Settings:
    return served_by(empty_sqlite_db, redis_server.port)


# --- metrics


async def test_metrics_say_what_happened(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis
) -> None:
    ids = [row["id"] for row in (monitor_row(interval=3600), monitor_row(interval=3600))]
    await empty_sqlite_db.insert("monitors", *(monitor_row(id=id_, interval=3600) for id_ in ids))
    await empty_sqlite_db.insert("monitors", monitor_row(interval=0))
    async with serving(served_by(empty_sqlite_db, redis_server.port)) as (producer, client):
        await producer.until_logged("sweep finished")
        await redis.zadd(DUE, dict.fromkeys(ids, 1))

        async def counted() -> bool:
            return await client.sample("checks_total", outcome="enqueued") == 2

        await until(counted, "both checks are counted")
        for name, labels, value in (
            ("lateness_seconds_count", {}, 2),
            ("batch_size_sum", {}, 2),
            ("stage_seconds_count", {"stage": "settle"}, 1),
            ("missed_total", {"reason": "overload"}, 0),
            ("monitors", {"state": "due"}, 2),
            ("oldest_due_seconds", {}, 0),
            ("leader", {}, 1),
            ("term_changes_total", {}, 1),
            ("sweep_changes_total", {"kind": "added"}, 2),
            ("dependency_up", {"system": "redis"}, 1),
            ("dependency_up", {"system": "database"}, 1),
            ("queue_tasks", {"state": "pending"}, 2),
            ("workers", {}, 0),
        ):
            assert await client.sample(name, **labels) == value, name
        claimed_s = await client.sample("last_claim_timestamp_seconds")
        assert claimed_s is not None
        assert abs(claimed_s - time.time()) < 60
        text = await client.metrics()
        assert not any(id_ in text for id_ in ids)


async def test_prometheus_takes_the_metrics_in_both_formats_and_finds_no_fault(
    settings: Settings, tmp_path: Path
) -> None:
    promtool = needed("promtool")
    async with serving(settings) as (producer, client):
        await producer.until_logged("leadership taken")
        text, openmetrics = await client.metrics(), (await client.get("/metrics", OPENMETRICS)).text
    checked = await asyncio.to_thread(
        subprocess.run, [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    # Only this command of promtool reads OpenMetrics, and only with a timestamp in each line.
    timed = re.sub(r"^(?!#).+$", r"\g<0> 1", openmetrics, flags=re.MULTILINE)
    (tmp_path / "metrics.txt").write_text(timed)
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", "metrics.txt", "blocks"]
    taken = await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert taken.returncode == 0, taken.stderr
    assert len(list((tmp_path / "blocks").iterdir())) == 1


async def test_every_outcome_is_in_one_metric(settings: Settings) -> None:
    own = {
        Outcome.RECLAIMED: "reclaimed_total",
        Outcome.FROM_CACHE: "checks_from_cache_total",
        Outcome.EVENT_DROPPED: "events_dropped_total",
        Outcome.LOOP_FAILED: "loop_failures_total",
    }
    async with serving(settings) as (_, client):
        lines = (await client.metrics()).splitlines()
    for outcome in Outcome:
        if outcome in own:
            sample = own[outcome]
        elif outcome.startswith("missed_"):
            sample = f'missed_total{{reason="{outcome.removeprefix("missed_")}"}}'
        else:
            sample = f'checks_total{{outcome="{outcome}"}}'
        assert len([line for line in lines if line.startswith(f"{PREFIX}{sample} ")]) == 1, outcome


async def test_both_formats_hold_the_same(settings: Settings) -> None:
    async with serving(settings, replace(QUICK, figures_kept_s=3600)) as (producer, client):
        # What has not been measured yet is left out.
        await producer.until_logged("sweep changed nothing")
        text, openmetrics = await client.get("/metrics"), await client.get("/metrics", OPENMETRICS)
    assert text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert openmetrics.headers["content-type"] == f"{OPENMETRICS}; charset=utf-8"
    assert openmetrics.text.endswith("# EOF\n")
    names = [
        {line.partition("{")[0].partition(" ")[0] for line in answer.text.splitlines() if line[0] != "#"}
        for answer in (text, openmetrics)
    ]
    assert names[0] == names[1]


async def test_however_many_ask_the_metrics_are_made_once_a_second(settings: Settings, redis: Redis) -> None:
    async with serving(settings, replace(QUICK, figures_kept_s=3600)) as (producer, client):
        await producer.until_logged("leadership taken")
        first = await client.metrics()
        await redis.zadd(DUE, {"11111111-1111-4111-8111-111111111111": time.time() * 1000 + 3_600_000})
        assert set(await asyncio.gather(*(client.metrics() for _ in range(20)))) == {first}


# --- probes


@pytest.mark.long
async def test_what_is_unavailable_makes_a_node_not_ready_and_never_not_alive(
    own_db: PostgresDatabase, own_postgres_server: Postgres, own_redis_server: RedisServer
) -> None:
    await own_db.insert("monitors", monitor_row(interval=1))
    own_redis_server.pause()
    own_postgres_server.pause()
    async with serving(served_by(own_db, own_redis_server.port)) as (producer, client):
        await client.until_reason("/readyz", "Redis has not answered yet: ", "the database has not answered yet")
        assert await client.sample("dependency_up", system="redis") == 0
        own_redis_server.resume()
        await client.until_reason("/readyz", "the database has not answered yet")
        own_postgres_server.resume()
        await client.until_reason("/readyz")
        assert await client.sample("monitors", state="due") is not None
        await producer.until_logged("batches settled")
        own_postgres_server.pause()
        await producer.until_logged("database unavailable", len(producer.logged("database unavailable")) + 1)
        assert await client.reasons("/readyz") == []
        own_redis_server.pause()
        await client.until_reason("/readyz", "Redis is unavailable: ")
        assert await client.reasons("/livez") == []
        for name, labels, there in (
            ("dependency_up", {"system": "redis"}, 0),
            ("dependency_up", {"system": "database"}, 0),
            ("monitors", {"state": "due"}, None),
            ("workers", {}, None),
        ):
            assert await client.sample(name, **labels) == there, name
        for system in ("redis", "database"):
            assert (await client.sample("dependency_errors_total", system=system) or 0) > 0
            assert (await client.sample("outage_seconds_total", system=system) or 0) > 0
        own_redis_server.resume()
        own_postgres_server.resume()
        await client.until_reason("/readyz")


async def test_a_node_that_stops_is_not_ready_until_its_end(
    own_db: PostgresDatabase, own_postgres_server: Postgres, redis_server: RedisServer, redis: Redis
) -> None:
    """It still has a batch to settle, whose read hangs."""
    await own_db.insert("monitors", monitor_row(interval=1))
    async with serving(served_by(own_db, redis_server.port)) as (producer, client):
        await producer.until_logged("batches settled")
        own_postgres_server.pause()
        settled = len(producer.logged("batches settled"))
        await producer.until_logged("batches settled", settled)
        producer.stop.set()
        await client.until_reason("/readyz", "the node is stopping")
        own_postgres_server.resume()
    assert producer.lines[-1]["event"] == "producer stopped"


async def test_a_frozen_claim_loop_is_not_alive(
    own_db: PostgresDatabase, own_postgres_server: Postgres, redis_server: RedisServer, redis: Redis
) -> None:
    """A batch that waits half a minute for the database freezes the only worker, but not the event loop."""
    await own_db.insert("monitors", monitor_row(interval=1))
    timing = replace(QUICK, lease_ms=60_000, alive_within_s=2)
    async with serving(served_by(own_db, redis_server.port, producer_concurrency=1), timing) as (producer, client):
        await producer.until_logged("batches settled")
        own_postgres_server.pause()
        await client.until_reason("/livez", "the claim loop last ran ")
        assert await client.reasons("/readyz") == []
        own_postgres_server.resume()
        await client.until_reason("/livez")


async def test_a_frozen_event_loop_is_not_alive(settings: Settings) -> None:
    """A probe gets no answer while it is frozen; its lag shows afterwards."""
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(httpx.get(f"http://{HOST}:{port_of(settings)}/livez", timeout=0.5, trust_env=False))
        except httpx.TimeoutException as error:
            answers.append(error)

    async with serving(settings) as (_, client):
        probe = threading.Thread(target=ask)
        probe.start()
        while not answers:
            time.sleep(0.01)  # what no part of the producer may do
        probe.join()
        assert isinstance(answers[0], httpx.TimeoutException)

        async def late() -> bool:
            return (await client.sample("event_loop_lag_seconds") or 0) > 0.3

        await until(late, "the lag is measured")


# --- the server


async def test_a_port_in_use_is_one_error_and_checks_go_on(
    settings: Settings, empty_sqlite_db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "RETRY_S", 0.05)
    await empty_sqlite_db.insert("monitors", monitor_row(interval=1))
    port = port_of(settings)
    with socket.create_server((HOST, port)) as other:
        async with producing(settings, QUICK) as producer:
            await producer.until_logged("batches settled", 2)
            (line,) = producer.logged("http server not started")
            assert line["level"] == "error"
            assert line["reason"] == f"{HOST}:{port}: Address already in use"
            other.close()
            line = await producer.until_logged("http server started")
            assert line["address"] == f"{HOST}:{port}"
            async with client_of(port) as client:
                await client.until_reason("/readyz")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 must be set up first")
@pytest.mark.parametrize(("host", "refuses"), [("127.0.0.2", True), ("0.0.0.0", False)])
async def test_the_address_decides_who_can_connect(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, host: str, *, refuses: bool
) -> None:
    settings = served_by(empty_sqlite_db, redis_server.port, producer_http_host=host)
    async with producing(settings, QUICK), client_of(port_of(settings), "127.0.0.2") as client:
        assert (await client.get("/metrics")).status_code == 200
        try:
            _, writer = await asyncio.open_connection(HOST, port_of(settings))
        except ConnectionRefusedError:
            assert refuses
        else:
            assert not refuses
            writer.close()
            await writer.wait_closed()


async def test_signals_and_the_log_are_left_alone(settings: Settings) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with serving(settings) as (producer, client):
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
        assert (await client.get("/nothing")).status_code == 404
        reader, writer = await asyncio.open_connection(HOST, port_of(settings))
        writer.write(b"no HTTP\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        await writer.wait_closed()
    assert [line for line in producer.lines if line["event"].startswith("library")] == []
    assert not logging.getLogger("uvicorn").handlers


async def test_clients_are_bounded_in_number_and_time(
    settings: Settings, empty_sqlite_db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are too many are closed at once, those that never send a whole request in time; checks go on."""
    monkeypatch.setattr(server, "REQUEST_WITHIN_S", 1.0)
    monkeypatch.setattr(server, "MOST_CLIENTS", 20)
    await empty_sqlite_db.insert("monitors", monitor_row(interval=1))
    async with serving(settings) as (producer, client):
        streams = [await asyncio.open_connection(HOST, port_of(settings)) for _ in range(40)]
        for _, writer in streams:
            writer.write(b"GET /metrics HTTP/1.1\r\n")
        settled = len(producer.logged("batches settled"))
        ended = await asyncio.gather(*(reader.read() for reader, _ in streams), return_exceptions=True)
        assert all(end == b"" or isinstance(end, ConnectionError) for end in ended)
        for _, writer in streams:
            writer.close()
        await client.until_reason("/livez")
        await producer.until_logged("batches settled", settled + 1)


async def test_a_process_serves_and_ends_by_its_signal(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    """The client's connection is still open, and an answer that nobody takes is under way."""
    variables = addressed(empty_sqlite_db, redis_server.port) | {"PRODUCER_HTTP_PORT": free_port()}
    async with started(tmp_path, **variables) as producer, client_of(variables["PRODUCER_HTTP_PORT"]) as client:
        await client.until_reason("/readyz")
        _, writer = await asyncio.open_connection(HOST, variables["PRODUCER_HTTP_PORT"])
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        assert await producer.stop() == 0
        assert [line["event"] for line in producer.lines if line["level"] == "error"] == []
        writer.close()


def test_what_only_a_person_can_fix_still_ends_a_node(tmp_path: Path, redis_server: RedisServer) -> None:
    (tmp_path / "peekaping.db").write_text("This is no SQLite file. " * 100)
    variables = {"DB_TYPE": "sqlite", "DB_NAME": "peekaping.db", "REDIS_PORT": redis_server.port}
    ended = run_to_the_end(tmp_path, "run", **variables, PRODUCER_HTTP_PORT=free_port())
    assert ended.code == 2
    assert len(ended.problems) == 1


async def test_without_a_port_a_node_listens_nowhere(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    async with started(tmp_path, **addressed(empty_sqlite_db, redis_server.port)) as producer:
        await producer.until_logged("no active monitor found")
        listening = [one for one in psutil.Process(producer.pid).net_connections() if one.status == psutil.CONN_LISTEN]
        assert listening == []
        assert not producer.logged("http server started")


def test_nothing_of_it_is_imported_without_a_port() -> None:
    """Each start of a node would wait for it."""
    code = (
        "import sys, peekaping_producer.launch; print({'starlette', 'uvicorn', 'prometheus_client'} & {*sys.modules})"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"
