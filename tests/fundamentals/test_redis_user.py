"""A Redis user that has only the rights of the docs, and whose password changes while the producer runs."""

import asyncio
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from peekaping_producer.asynq import keys as asynq
from peekaping_producer.demo.redis_server import RedisServer
from support.api_events import publish_updated
from support.databases import SqliteDatabase, monitor_row
from support.fleet import addressed
from support.nodes import connected
from support.producer import run_here, started
from support.redis_rights import USER, documented_rights
from support.waiting import until

FIRST, SECOND = "hush-first", "hush-second"
COMMANDS = (("check",), ("status",), ("pause", "--reason", "a test"), ("resume",))


async def set_user(redis: Redis, password: str) -> None:
    """Give the user these rights and this password, and end its connections."""
    run: Any = redis.execute_command
    await run("ACL", "SETUSER", USER, *documented_rights(password))
    await run("CLIENT", "KILL", "USER", USER)


async def test_the_rights_of_the_docs_are_enough_and_a_rotated_password_needs_no_restart(
    empty_sqlite_db: SqliteDatabase, own_redis_server: RedisServer, tmp_path: Path
) -> None:
    row, path = monitor_row(interval=2), tmp_path / "password"
    await empty_sqlite_db.insert("monitors", row)
    path.write_text(f"{FIRST}\n")
    login = {"REDIS_USERNAME": USER, "REDIS_PASSWORD_FILE": path, "LOG_LEVEL": "info"}
    variables = addressed(empty_sqlite_db, own_redis_server.port) | login
    async with connected(own_redis_server.port) as redis:
        await set_user(redis, FIRST)
        async with started(tmp_path, **variables) as producer:
            await producer.until_logged("leadership taken")

            async def enqueued() -> bool:
                return bool(await redis.exists(asynq.PENDING))

            await until(enqueued, "a check is in the queue")
            await publish_updated(redis, row)
            for command in (*COMMANDS, ("explain", row["id"]), ("run-now", row["id"])):
                done = await asyncio.to_thread(run_here, tmp_path, *command, **variables)
                assert "NOPERM" not in done.out + done.err

            await set_user(redis, SECOND)
            refused = await producer.until_logged("redis unavailable")
            path.write_text(SECOND)
            await producer.until_logged("redis recovered")
            await redis.delete(asynq.PENDING)
            await until(enqueued, "checks go on")
            assert await producer.stop() == 0
            assert producer.logged("leadership resigned")
        denied = {entry["object"] for entry in await redis.acl_log() if entry["reason"] != "auth"}
    assert denied <= {"config|get"}  # of `check` and of the warnings at the start, which do without it
    assert "hush" not in str(producer.lines) + producer.err
    assert "password" in refused["reason"] or "closed" in refused["reason"]
