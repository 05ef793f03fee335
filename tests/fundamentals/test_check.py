"""`check`: what an operator sees before the start. It shows what would not work, and changes nothing."""

import asyncio
import json
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.config.settings import Settings
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.fleet.registry import NodeInfo, Registry
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import DUE, GO_SEEN, LEADER
from peekaping_producer.timing import Timing
from support.asynq_states import put_pending
from support.database_users import PASSWORD, make_user
from support.databases import Database, PostgresDatabase, SqliteDatabase, new_id
from support.fleet import addressed as addressed_to
from support.nodes import connected
from support.producer import producing
from support.redis_clock import redis_with_clock
from support.shell import SECRET, Shell, addressed, free_port, on_postgres, put_worker
from support.tcp_forwarding import serving

Finding = dict[str, Any]
SAVING = ("--save", "3600 1")
DOCS = Path(__file__).parents[2] / "docs" / "commands.md"


class Checked:
    """The report of a check, and its exit code."""

    def __init__(self, code: int, report: dict[str, Any]) -> None:
        self.code = code
        self.report = report
        self.findings: list[Finding] = report["findings"]

    def found(self, area: str, topic: str) -> Finding:
        """Return the only finding of this name."""
        (finding,) = [one for one in self.findings if (one["area"], one["topic"]) == (area, topic)]
        return finding

    @property
    def bad(self) -> list[tuple[str, str, str]]:
        """Area, topic and level of all that is not well, apart from the latency on a busy machine."""
        return [
            (one["area"], one["topic"], one["level"])
            for one in self.findings
            if one["level"] != "ok" and one["topic"] != "latency"
        ]


async def checked(shell: Shell, **others: Any) -> Checked:
    """Run `check --json`."""
    ended = await shell.run("check", "--json", **others)
    assert ended.err == ""
    report = json.loads(ended.out)
    assert report["schema"] == 1
    return Checked(ended.code, report)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """Start a Redis as it should be: it saves its data. The test may change it."""
    with RedisServer(tcp=True, config=SAVING) as server:
        yield server


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[Redis]:
    async with connected(server.port) as client:
        await put_worker(client)
        yield client


@pytest.fixture
def shell(tmp_path: Path, sqlite_db: SqliteDatabase, server: RedisServer, client: Redis) -> Shell:
    """Make a shell in which all is well."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return Shell(folder, **addressed(sqlite_db, server))


async def test_all_is_well(shell: Shell) -> None:
    lines = (await shell.output("check")).splitlines()
    assert lines.pop() == "all is well"
    assert {line[:2] for line in lines} == {"✓ "}
    shown = [line.split()[2] for line in lines if line.startswith("✓ settings ")]
    assert shown == [name.upper() for name in Settings.model_fields]
    assert any(re.fullmatch(r"✓ redis +Valkey 9\S* answers", line) for line in lines)
    assert "✓ redis       data is saved by snapshots (save 3600 1)" in lines
    assert "✓ database    there are 86 monitors, 85 of them active" in lines
    assert "✓ deployment  no other producer runs" in lines
    report = (await checked(shell)).report
    assert (report["verdict"], {one["to_do"] for one in report["findings"]}) == ("ok", {None})


async def test_the_docs_describe_the_report(shell: Shell) -> None:
    text = DOCS.read_text(encoding="utf-8").partition("\n## check")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```json check\n(.*?)```", text, re.DOTALL)
    shown, checks = json.loads(block), await checked(shell)
    assert list(shown) == list(checks.report)
    for name in ("settings", "findings"):
        assert list(shown[name][0]) == list(checks.report[name][0])
    topics = re.findall(r"^\| `(\w+)` \| `([\w-]+)` \| ", text, re.MULTILINE)
    of_go = {("deployment", "go-producer"), ("deployment", "retry-interval")}
    not_here = {("area", "topic"), ("settings", "variable"), *of_go}
    assert {(one["area"], one["topic"]) for one in checks.findings} == {*topics} - not_here


async def test_nothing_is_changed(shell: Shell, client: Redis, sqlite_db: SqliteDatabase) -> None:
    await Registry(client, Timing()).register(NodeInfo(id="host-1-na0"))
    await client.set(LEADER, "host-1-na0")
    await client.zadd(DUE, {new_id(): 1.0})
    await put_pending(client, MonitorId(new_id()))
    file = sqlite_db.path.read_bytes()
    before = await contents(client)
    assert (await checked(shell)).code == 0
    assert await contents(client) == before
    assert sqlite_db.path.read_bytes() == file


async def contents(client: Redis) -> tuple[dict[Any, Any], int]:
    """Return all keys with their values, and how many changes the server has counted."""
    found = {key: await client.dump(key) for key in await client.keys()}
    return found, (await client.info("persistence"))["rdb_changes_since_last_save"]


# --- the settings


async def test_every_setting_has_its_origin(shell: Shell) -> None:
    (shell.folder / ".env").write_text(f"LOG_LEVEL=info\nREDIS_PASSWORD='{SECRET}'\n")
    text = await shell.output("check", DB_HOST="unused", REDIS_HSOT="127.0.0.1")
    lines = text.splitlines()
    assert "✓ settings    LOG_LEVEL = info (.env)" in lines
    assert "✓ settings    REDIS_PASSWORD = *** (.env)" in lines
    assert "✓ settings    REDIS_HOST = 127.0.0.1 (environment)" in lines
    assert "✓ settings    REDIS_DB = 0 (default)" in lines
    assert "✓ settings    DB_SCHEMA is not set" in lines
    assert "✓ settings    DB_HOST is set, but not used (environment)" in lines
    (unknown,) = [line for line in lines if line.startswith("! settings ")]
    assert "did you mean REDIS_HOST?" in unknown


async def test_wrong_settings_are_findings_too(shell: Shell) -> None:
    wrong = {**on_postgres(99_999), "LOG_LEVEL": "loud", "REDIS_PASSWORD": SECRET}
    checks = await checked(shell, **wrong)
    assert (checks.code, checks.report["verdict"]) == (2, "wrong")
    assert checks.bad == [("settings", "variable", "wrong")] * 2
    assert [one["what"].split()[0] for one in checks.findings[:2]] == ["DB_PORT", "LOG_LEVEL"]
    # Redis is checked all the same, since its own settings are right.
    assert checks.found("redis", "role")["level"] == "ok"
    text = await shell.output("check", code=2, **wrong)
    assert "  settings    DB_PORT is set (environment)" in text.splitlines()
    assert text.splitlines()[-1] == "2 things must be changed"


# --- Redis


async def test_redis_that_does_not_answer_is_unavailable(shell: Shell) -> None:
    with free_port() as port:
        checks = await checked(shell, REDIS_PORT=port, REDIS_PASSWORD=SECRET)
    assert (checks.code, checks.bad) == (1, [("redis", "server", "unavailable")])
    assert checks.found("redis", "server")["to_do"] == "start it, or correct REDIS_*"


async def test_a_wrong_password_must_be_changed(shell: Shell, client: Redis) -> None:
    await client.config_set("requirepass", "another one")
    for variables in ({}, {"REDIS_PASSWORD": SECRET}):
        checks = await checked(shell, **variables)
        assert (checks.code, checks.bad) == (2, [("redis", "server", "wrong")])
        assert "REDIS_PASSWORD" in checks.found("redis", "server")["what"]


async def forbid(client: Redis, *commands: str) -> None:
    """Take the right to use these commands from the user."""
    await cast("Any", client).execute_command("ACL", "SETUSER", "default", *(f"-{command}" for command in commands))


async def test_a_missing_right_must_be_granted(shell: Shell, client: Redis) -> None:
    await forbid(client, "evalsha", "subscribe")
    checks = await checked(shell)
    assert (checks.code, checks.bad) == (2, [("redis", "rights", "wrong")])
    assert "EVALSHA, SUBSCRIBE" in checks.found("redis", "rights")["what"]


async def test_a_server_that_does_not_show_its_configuration(shell: Shell, client: Redis) -> None:
    await forbid(client, "config")
    checks = await checked(shell)
    assert (checks.code, checks.bad) == (0, [])
    assert checks.found("redis", "persistence")["what"] == "could not read whether data is saved"


@pytest.mark.parametrize(
    ("setting", "value", "topic", "to_do"),
    [
        ("maxmemory-policy", "allkeys-lru", "maxmemory-policy", "set maxmemory-policy noeviction"),
        ("save", "", "persistence", "set appendonly yes"),
        ("maxmemory", "1", "memory", "raise maxmemory"),
    ],
)
async def test_a_setting_of_redis_that_puts_the_schedule_at_risk(
    shell: Shell, client: Redis, setting: str, value: str, topic: str, to_do: str
) -> None:
    await client.config_set(setting, value)
    checks = await checked(shell)
    assert (checks.code, checks.report["verdict"], checks.bad) == (0, "warning", [("redis", topic, "warning")])
    assert checks.found("redis", topic)["to_do"] == to_do
    lines = (await shell.output("check")).splitlines()
    (warning,) = [line for line in lines if line.startswith("! redis ")]
    assert warning.endswith(f" ({to_do})")
    assert lines[-1] == "1 warning"


async def test_a_replica_is_no_place_for_a_schedule(shell: Shell, client: Redis) -> None:
    with free_port() as port:
        await client.replicaof(HOST, port)
        checks = await checked(shell)
    assert (checks.code, checks.bad) == (2, [("redis", "role", "wrong")])


async def test_a_clock_that_differs(shell: Shell, tmp_path: Path) -> None:
    with redis_with_clock(tmp_path) as (server, clock):
        clock.step(90)
        finding = (await checked(shell, REDIS_PORT=server.port)).found("redis", "clock")
    assert finding["level"] == "warning"
    assert re.fullmatch(r"its clock is (89|90)\.\d s ahead of this host's", finding["what"])


# --- the database


async def test_each_kind_of_database(shell: Shell, any_db: Database) -> None:
    checks = await checked(shell, **addressed_to(any_db, shell.variables["REDIS_PORT"]))
    assert (checks.code, checks.bad) == (0, [("database", "monitors", "warning")])
    words = {
        "sqlite": "SQLite 3",
        "postgres": "PostgreSQL 18",
        "mysql": "MariaDB 10",
        "mongo": "MongoDB ",
    }
    server = checks.found("database", "server")["what"]
    assert server.startswith(words[any_db.kind])
    assert ("without TLS" in server) == (any_db.kind != "sqlite")
    assert "none of them active" in checks.found("database", "monitors")["what"]


async def test_a_million_monitors_are_not_all_counted(shell: Shell, sqlite_db: SqliteDatabase) -> None:
    with sqlite_db.connected() as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(monitors)") if row[1] != "id"]
        columns = ", ".join(f'"{name}"' for name in names)
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
            f" INSERT INTO monitors (id, {columns}) SELECT printf('%08x-0000-4000-8000-000000000000', i), {columns}"
            " FROM n, (SELECT * FROM monitors LIMIT 1)"
        )
    finding = (await checked(shell)).found("database", "monitors")
    assert (finding["level"], finding["what"]) == ("ok", "there are more than 100,000 monitors")


async def test_a_database_that_does_not_answer_is_unavailable(shell: Shell) -> None:
    with free_port() as port:
        checks = await checked(shell, **on_postgres(port))
    assert (checks.code, checks.bad) == (1, [("database", "server", "unavailable")])


async def test_a_missing_table_or_column(shell: Shell, sqlite_db: SqliteDatabase) -> None:
    with sqlite_db.connected() as connection:
        connection.execute("ALTER TABLE monitors RENAME COLUMN config TO cfg")
    checks = await checked(shell)
    assert (checks.code, checks.bad) == (1, [("database", "server", "unavailable")])
    assert "column monitors.config" in checks.found("database", "server")["what"]
    with sqlite_db.connected() as connection:
        connection.execute("ALTER TABLE heartbeats RENAME TO others")
    assert "table heartbeats" in (await checked(shell)).found("database", "server")["what"]


async def test_a_refused_login_and_a_missing_right(shell: Shell, postgres_db: PostgresDatabase) -> None:
    user = await make_user(postgres_db)
    server = on_postgres(postgres_db.server.port, DB_USER=user, DB_NAME=postgres_db.name)
    refused = await checked(shell, **server)
    assert (refused.code, refused.bad) == (2, [("database", "server", "wrong")])
    assert "DB_PASS" in refused.found("database", "server")["what"]
    assert (await checked(shell, **{**server, "DB_PASS": PASSWORD})).code == 0
    await postgres_db.execute(f"REVOKE SELECT ON heartbeats FROM {user}")
    checks = await checked(shell, **{**server, "DB_PASS": PASSWORD})
    assert (checks.code, checks.bad) == (2, [("database", "server", "wrong")])
    assert "heartbeats" in checks.found("database", "server")["what"]


async def test_a_file_that_is_not_in_wal_mode(shell: Shell, sqlite_db: SqliteDatabase) -> None:
    with sqlite3.connect(sqlite_db.path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    assert (await checked(shell)).bad == [("database", "journal", "warning")]


# --- the deployment


async def test_other_producers_and_their_versions(shell: Shell, client: Redis) -> None:
    for node in (NodeInfo(id="host-1-na0", version="1.2.3"), NodeInfo(id="host-2-nb0", database_problem="frozen")):
        await Registry(client, Timing()).register(node)
    await client.set(LEADER, "host-1-na0")
    assert (await checked(shell)).found("deployment", "producers")["what"] == (
        "other producers run: host-1-na0 (version 1.2.3, leads), "
        "host-2-nb0 (version unknown, its database is unavailable)"
    )


async def test_a_go_producer(shell: Shell, client: Redis) -> None:
    await client.set(GO_SEEN, 1)
    checks = await checked(shell)
    assert (checks.bad, checks.found("deployment", "go-producer")["level"]) == ([], "ok")
    await client.set(LEADER, "producer-4711")
    assert "leads (producer-4711)" in (await checked(shell)).found("deployment", "go-producer")["what"]
    assert (await checked(shell, PRODUCER_SCHEDULE="spread")).bad == [("deployment", "go-producer", "warning")]


async def test_a_queue_that_nobody_takes_from(shell: Shell, client: Redis) -> None:
    await client.delete(keys.SERVERS)
    checks = await checked(shell)
    assert (checks.code, checks.bad) == (0, [("deployment", "queue", "warning")])
    assert checks.found("deployment", "queue")["to_do"] == "start Peekaping's workers"
    await client.set(keys.PAUSED, 1)
    assert (await checked(shell)).found("deployment", "queue")["to_do"] == "resume the queue"


# --- time


async def test_servers_that_hang_take_ten_seconds_at_most(shell: Shell, server: RedisServer) -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    server.pause()
    async with serving(silent) as port:
        began_s = time.monotonic()
        checks = await checked(shell, **on_postgres(port))
        assert time.monotonic() - began_s < 10
    assert checks.code == 1
    assert checks.bad == [("redis", "server", "unavailable"), ("database", "server", "unavailable")]


# --- the start of a producer


async def test_a_producer_logs_the_same_warnings_once(
    sqlite_db: SqliteDatabase, server: RedisServer, client: Redis
) -> None:
    await client.config_set("maxmemory-policy", "volatile-ttl")
    await client.set(GO_SEEN, 1)
    await client.delete(keys.SERVERS)
    settings = sqlite_db.settings(redis_host=HOST, redis_port=server.port, producer_schedule="spread")
    async with producing(settings, replace(Timing(), warn_after_s=0, queue_every_s=0.05)) as producer:
        await producer.until_logged("setup warning", 2)
        await producer.until_logged("queue trouble started")
    eviction, go = producer.logged("setup warning")
    assert (eviction["area"], eviction["to_do"]) == ("redis", "set maxmemory-policy noeviction")
    assert (go["area"], go["level"]) == ("deployment", "warning")
