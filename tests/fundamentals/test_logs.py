"""What is in the log: readable for people, JSON in `prod` to the last line, and little of it whatever the load."""

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.config.settings import LogLevel, Mode
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.log import make_logger
from peekaping_producer.observe.paced import Paced
from peekaping_producer.redisdb.keys import DUE
from support.databases import SqliteDatabase, monitor_row
from support.fleet import addressed
from support.nodes import TestNode
from support.producer import Ended, command, environment, run_to_the_end, started
from support.waiting import until

HEAD = {"time", "level", "event", "svc", "node"}


def _run(folder: Path, *launcher: str, **variables: object) -> Ended:
    done = subprocess.run(
        [*launcher, *command("run")],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("mode", ["dev", "test"])
async def test_a_summary_is_readable(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path, mode: str
) -> None:
    await empty_sqlite_db.insert("monitors", *(monitor_row(created_at=datetime.now(UTC)) for _ in range(3)))
    variables = environment(DB_TYPE="sqlite", DB_NAME=empty_sqlite_db.path, REDIS_PORT=redis_server.port, MODE=mode)
    process = await asyncio.create_subprocess_exec(
        *command("run"), cwd=tmp_path, env=variables, stdout=asyncio.subprocess.PIPE
    )
    await until(lambda: _checked(redis))
    process.terminate()
    out, _ = await process.communicate()
    (summary,) = [line for line in out.decode().splitlines() if " summary " in line]
    assert "checks={'enqueued': 3}" in summary
    assert "<" not in summary
    assert all(" node=" in line for line in out.decode().splitlines())


async def _checked(redis: Redis) -> bool:
    return await redis.llen(keys.PENDING) == 3 and await redis.zcard(DUE) == 3


async def test_the_effective_settings_are_logged_without_secrets(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    variables = addressed(empty_sqlite_db, redis_server.port)
    async with started(tmp_path, **variables, TZ="Europe/Berlin") as producer:
        line = await producer.until_logged("settings loaded")
        await producer.until_logged("leadership taken")
    assert line | {name: str(value) for name, value in variables.items()} == line | {
        "DB_TYPE": "sqlite",
        "DB_NAME": str(empty_sqlite_db.path),
        "REDIS_PORT": str(redis_server.port),
    }
    assert line["PRODUCER_CONCURRENCY"] == 10
    assert line["TZ"] == "Europe/Berlin"
    assert "DB_PASS" not in line
    assert all(line.keys() >= HEAD for line in producer.lines)
    assert len({line["node"] for line in producer.lines}) == 1


async def test_secrets_in_the_settings_are_masked(tmp_path: Path) -> None:
    variables: dict[str, Any] = dict.fromkeys(("DB_USER", "DB_NAME"), "x") | dict.fromkeys(("DB_PORT", "REDIS_PORT"), 1)
    variables |= {"DB_TYPE": "postgres", "DB_HOST": HOST, "DB_PASS": "hush", "REDIS_PASSWORD": "hush"}
    async with started(tmp_path, **variables) as producer:
        line = await producer.until_logged("settings loaded")
        await producer.until_logged("redis unavailable")
    assert (line["DB_PASS"], line["REDIS_PASSWORD"]) == ("***", "***")
    assert "hush" not in json.dumps(producer.lines)


@pytest.mark.parametrize("mode", ["prod", " PROD ", "'prod'"])
def test_in_prod_wrong_settings_are_json_lines_too(tmp_path: Path, mode: str) -> None:
    (tmp_path / ".env").write_text("SERVICE_NAME=mine\n")
    ended = run_to_the_end(tmp_path, "run", MODE=mode, DB_TYPE="nonsense", REDIS_PORT="no")
    lines = [json.loads(line) for line in ended.err.splitlines()]
    assert ended.code == 2
    assert len(lines) >= 3
    assert all(line.keys() >= HEAD for line in lines)
    assert {line["svc"] for line in lines} == {"mine"}
    assert {(line["level"], line["event"]) for line in lines} == {("error", "producer failed")}
    assert [line for line in lines if line["problem"].startswith("REDIS_PORT")]


def test_in_prod_an_unexpected_end_is_a_json_line_and_code_1(tmp_path: Path) -> None:
    """Three files may be open, and two more: an event loop needs three."""
    ended = _run(
        tmp_path, "bash", "-c", 'ulimit -n 5; exec "$@"', "bash", DB_TYPE="sqlite", DB_NAME="x", PATH="/usr/bin:/bin"
    )
    assert ended.code == 1
    # More may follow of Python's own, as of the event loop that was half made.
    line, *others = [json.loads(line) for line in ended.err.splitlines()]
    assert all(one.keys() >= HEAD for one in (line, *others))
    assert all(one["event"] == "exception ignored" for one in others)
    assert line["problem"].startswith("ended by an unexpected OSError")
    assert line["exception"].startswith("Traceback")


def test_elsewhere_an_unexpected_end_is_a_traceback_and_a_line(tmp_path: Path) -> None:
    ended = _run(
        tmp_path, "bash", "-c", 'ulimit -n 5; exec "$@"', "bash", DB_TYPE="sqlite", DB_NAME="x", MODE="dev",
        PATH="/usr/bin:/bin",
    )  # fmt: skip
    assert ended.code == 1
    assert ended.err.startswith("Traceback")
    assert "\npeekaping-producer: ended by an unexpected OSError" in ended.err


def test_a_warning_of_a_library_is_a_line_like_all_others() -> None:
    code = (
        "import sys, warnings\n"
        "from peekaping_producer.config.settings import LogLevel, Mode\n"
        "from peekaping_producer.observe.log import logging_to\n"
        "with logging_to(sys.stdout, Mode.PROD, LogLevel.INFO, 'svc', 'a-node'):\n"
        "    warnings.warn('old', stacklevel=1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    line = json.loads(done.stdout)
    assert (line["level"], line["logger"], line["node"], done.stderr) == ("warning", "py.warnings", "a-node", "")
    assert "old" in line["message"]


async def test_what_happens_often_is_a_line_a_second_that_adds_it_up() -> None:
    test = TestNode()
    paced = Paced(test.node.log.debug, LogEvent.EVENTS_HANDLED, 0.2)
    for number in range(1000):
        paced.add({"count": 1, "even": number % 2 == 0}, newest=number)
    assert [(line["count"], line["newest"]) for line in test.logged("events handled")] == [(1, 0)]
    await until(lambda: len(test.logged("events handled")) >= 2)
    assert [(line["count"], line["even"], line["newest"]) for line in test.logged("events handled")[1:]] == [
        (999, 499, 999)
    ]


async def test_debug_writes_few_lines_whatever_the_load(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    rows = [monitor_row() for _ in range(4_000)]
    await empty_sqlite_db.insert("monitors", *rows)
    await redis.zadd(DUE, {row["id"]: 1 for row in rows})
    variables = addressed(empty_sqlite_db, redis_server.port)
    async with started(tmp_path, **variables, LOG_LEVEL="debug") as producer:
        await until(lambda: _all_later(redis, len(rows)))
        for _ in range(500):
            await redis.publish("peekaping:events:monitor.updated", "nonsense")
        await producer.until(lambda: sum(line["checks"] for line in producer.logged("batches settled")) >= len(rows))
    by_second: dict[tuple[str, str], int] = {}
    for line in producer.lines:
        key = line["time"][:19], line["event"]
        by_second[key] = by_second.get(key, 0) + 1
    assert max(by_second.values()) <= 3, by_second
    assert sum(line["batches"] for line in producer.logged("batches settled")) >= 20


async def _all_later(redis: Redis, count: int) -> bool:
    return bool(await redis.zcount(DUE, "(1", "+inf") == count)


def test_make_logger_writes_the_node_after_the_service(capsys: pytest.CaptureFixture[str]) -> None:
    make_logger(Mode.PROD, LogLevel.INFO, "svc", sys.stdout, "a-node").info("hello", more=1)
    assert list(json.loads(capsys.readouterr().out)) == ["time", "level", "event", "svc", "node", "more"]
