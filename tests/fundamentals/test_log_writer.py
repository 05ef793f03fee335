"""A log that nobody reads, or that goes where nothing can be written: it stops no check, and says what is missing."""

import asyncio
import fcntl
import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from peekaping_producer.config.settings import LogLevel, Mode
from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.observe.log import make_logger
from peekaping_producer.observe.log_writer import LogWriter
from peekaping_producer.redisdb.keys import CLAIMS, DUE, EPOCH, LEADER
from support.databases import SqliteDatabase, monitor_row
from support.producer import WITHIN_S, command, environment
from support.waiting import until

DROPPED = "log lines dropped"
_SMALLEST_PIPE_BYTES = 4096


@contextmanager
def _pipe() -> Iterator[tuple[int, io.TextIOWrapper]]:
    """Give both ends of a pipe that holds a page; what reads waits for nothing."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _SMALLEST_PIPE_BYTES)
    os.set_blocking(reading, False)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        try:
            yield reading, stream
        finally:
            os.close(reading)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 20)
    except BlockingIOError:
        return b""


async def _read_until(descriptor: int, event: str) -> list[dict[str, Any]]:
    """Read lines until there is one of this event."""
    data = b""
    async with asyncio.timeout(WITHIN_S):
        while f'"{event}"'.encode() not in data or not data.endswith(b"\n"):
            await asyncio.sleep(0.001)
            data += _read(descriptor)
    return [json.loads(line) for line in data.splitlines()]


async def test_lines_are_dropped_and_counted_where_they_are_missing_and_the_order_is_kept() -> None:
    with _pipe() as (reading, stream):
        writer = LogWriter(stream, most_waiting=100)
        log = make_logger(Mode.PROD, LogLevel.DEBUG, "svc", writer)
        writer.on_dropped = lambda count: log.warning(DROPPED, count=count)
        for number in range(1000):
            log.info("line", number=number)
        lines = await _read_until(reading, DROPPED)
        log.info("line", number=1000)
        writer.close()
        lines += [json.loads(line) for line in _read(reading).splitlines()]

    (dropped,) = [line for line in lines if line["event"] == DROPPED]
    numbers = [line["number"] for line in lines if line["event"] == "line"]
    at = lines.index(dropped)
    assert dropped["count"] == 1000 - at
    assert numbers == [*range(at), 1000]
    assert at >= 100


def test_what_is_queued_is_written_at_the_end() -> None:
    with _pipe() as (reading, stream):
        writer = LogWriter(stream)
        log = make_logger(Mode.PROD, LogLevel.DEBUG, "svc", writer)
        for number in range(20):
            log.info("line", number=number)
        writer.close()
        assert [json.loads(line)["number"] for line in _read(reading).splitlines()] == list(range(20))


def test_an_end_waits_for_no_reader_that_reads_nothing() -> None:
    with _pipe() as (reading, stream):
        writer = LogWriter(stream)
        log = make_logger(Mode.PROD, LogLevel.DEBUG, "svc", writer)
        for number in range(200):
            log.info("line", number=number)
        began_s = time.monotonic()
        writer.close()
        assert time.monotonic() - began_s < WITHIN_S
        # Its thread ends with the pipe.
        while b'"number":199' not in _read(reading):
            assert time.monotonic() - began_s < WITHIN_S


async def test_a_full_disk_costs_the_lines_of_that_time_alone() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full, _pipe() as (reading, stream):
        target = os.dup(full.fileno())
        with os.fdopen(target, "w", encoding="utf-8") as moving:
            writer = LogWriter(moving)
            log = make_logger(Mode.PROD, LogLevel.DEBUG, "svc", writer)
            writer.on_dropped = lambda count: log.warning(DROPPED, count=count)
            log.info("line")
            await until(lambda: bool(writer._dropped))
            os.dup2(stream.fileno(), target)
            lines = await _read_until(reading, DROPPED)
            writer.close()
    assert [line["event"] for line in lines] == [DROPPED]


@pytest.mark.long
async def test_a_log_that_nobody_reads_stops_no_check_and_costs_no_leadership(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    """The pipe holds one line and a half of these."""
    await empty_sqlite_db.insert("monitors", *(monitor_row(interval=1) for _ in range(3)))
    variables = environment(
        DB_TYPE="sqlite", DB_NAME=empty_sqlite_db.path, REDIS_PORT=redis_server.port, SERVICE_NAME="x" * 3000
    )
    with _pipe() as (reading, stream):
        process = subprocess.Popen(command("run"), cwd=tmp_path, env=variables, stdout=stream)
        try:
            await until(lambda: _has_claimed(redis, 3))
            leader, epoch = await redis.get(LEADER), await redis.get(EPOCH)
            claims = await _claims(redis)
            await until(lambda: _has_claimed(redis, claims + 10))
            await until(lambda: _differs(redis, EPOCH, epoch))
            assert await redis.get(LEADER) == leader
            # Nothing is lost that the queue can hold.
            events = [line["event"] for line in await _read_until(reading, "batches settled")]
            assert events[:3] == ["producer starting", "settings loaded", "leadership taken"]

            claims = await _claims(redis)
            await until(lambda: _has_claimed(redis, claims + 5))
            process.send_signal(signal.SIGTERM)
            assert process.wait(WITHIN_S) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    assert not await redis.exists(LEADER)
    assert await redis.zcard(DUE) == 3


async def _claims(redis: Redis) -> int:
    return int(await redis.get(CLAIMS) or 0)


async def _has_claimed(redis: Redis, times: int) -> bool:
    return await _claims(redis) >= times


async def _differs(redis: Redis, key: str, before: object) -> bool:
    return bool(await redis.get(key) != before)
