"""The check at the start: is the database there, open to us, and Peekaping's? An operator must fix what is not."""

import asyncio
import shutil
import socket
import sqlite3
from pathlib import Path

import pytest

from peekaping_producer.catalog.catalog import open_catalog
from peekaping_producer.catalog.sql import SqlCatalog
from peekaping_producer.config.settings import Settings
from peekaping_producer.errors import ConfigurationError, Unavailable
from peekaping_producer.model.monitor import MonitorId
from support.catalogues import all_pages, in_order, opened
from support.database_users import PASSWORD, make_user, set_password
from support.databases import (
    CREATED_AT,
    SQLITE_FIXTURE,
    Database,
    MongoDatabase,
    MySqlDatabase,
    ServerDatabase,
    SqliteDatabase,
    monitor_row,
    new_id,
    settings,
)
from support.postgres import HOST
from support.tcp_forwarding import serving

WRONG = "wr0ng-p4ss"


async def refusal(where: Database | Settings) -> str:
    """Return what the check reports to the operator, in one line."""
    async with opened(where) as catalog:
        with pytest.raises(ConfigurationError) as raised:
            await catalog.check()
    (problem,) = raised.value.problems
    assert "\n" not in problem
    return problem


async def unavailable(where: Database | Settings) -> str:
    """Return why the check should be tried again, in one line."""
    async with opened(where) as catalog:
        with pytest.raises(Unavailable) as raised:
            await catalog.check()
    assert raised.value.system == "database"
    assert "\n" not in raised.value.reason
    return raised.value.reason


async def test_peekapings_own_database_passes(any_fixture_db: Database) -> None:
    async with opened(any_fixture_db) as catalog:
        await catalog.check()


async def test_extra_columns_and_tables_do_no_harm(any_sql_db: Database) -> None:
    await any_sql_db.execute("ALTER TABLE monitors ADD COLUMN colour TEXT; CREATE TABLE extra (id INTEGER)")

    async with opened(any_sql_db) as catalog:
        await catalog.check()


async def test_everything_that_is_missing_is_named_at_once(any_sql_db: Database) -> None:
    await any_sql_db.execute(
        "DROP TABLE monitor_maintenances;"
        "ALTER TABLE monitors RENAME COLUMN config TO settings;"
        'ALTER TABLE heartbeats RENAME COLUMN "time" TO at;'
        "ALTER TABLE proxies RENAME COLUMN port TO harbour"
    )

    problem = await unavailable(any_sql_db)

    for missing in (
        "table monitor_maintenances",
        "column monitors.config",
        "column heartbeats.time",
        "column proxies.port",
    ):
        assert missing in problem
    assert "DB_NAME" in problem


async def test_a_database_of_something_else_lacks_every_table(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    sqlite3.connect(path).close()
    path.touch()

    problem = await unavailable(settings(db_type="sqlite", db_name=str(path)))

    for table in ("monitors", "proxies", "maintenances", "monitor_maintenances", "heartbeats"):
        assert f"table {table}" in problem


async def test_an_empty_mongo_database_lacks_every_collection(empty_mongo_db: MongoDatabase) -> None:
    problem = await unavailable(empty_mongo_db.settings(db_name="no_such_database"))

    assert "DB_NAME 'no_such_database'" in problem
    assert "collection monitor," in problem


async def test_a_mongo_database_without_monitors_yet_passes(empty_mongo_db: MongoDatabase) -> None:
    async with opened(empty_mongo_db) as catalog:
        await catalog.check()


async def test_a_mongo_database_of_something_else_lacks_fields(empty_mongo_db: MongoDatabase) -> None:
    async with empty_mongo_db.connected() as collections:
        await collections["monitor"].insert_one({"brand": "X"})

    assert "field monitor.interval, field monitor.type" in await unavailable(empty_mongo_db)


each_server = pytest.mark.parametrize("kind", ["postgres", "mysql", "mongo"])


@each_server
async def test_a_refused_port_is_transient_and_the_error_names_it(kind: str) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))  # bound, not listening: a connection is refused
        port = taken.getsockname()[1]
        reason = await unavailable(elsewhere(kind, HOST, port))

    assert reason.startswith(f"DB_HOST '{HOST}', DB_PORT {port}: ")
    assert "refused" in reason or "Connect call failed" in reason
    assert reason.endswith("(is it running, and reachable from here?)")
    assert PASSWORD not in reason


@each_server
async def test_a_host_without_an_address_is_transient(kind: str) -> None:
    reason = await unavailable(elsewhere(kind, "no.such.invalid", 5432))

    assert "is DB_HOST right?" in reason
    assert PASSWORD not in reason


@pytest.mark.parametrize("host", ["%%%", "[::1", "a,,b", "/no/such.sock", "::1", "x" * 60])
@each_server
async def test_any_invalid_host_is_reported_in_one_line(kind: str, host: str) -> None:
    try:
        async with opened(elsewhere(kind, host, 1), timeout_s=0.5) as catalog:
            await catalog.check()
    except Unavailable as error:
        problem = error.reason
    except ConfigurationError as error:
        (problem,) = error.problems

    assert "DB_HOST" in problem
    assert "\n" not in problem
    assert PASSWORD not in problem


async def test_a_refused_login_names_the_variables_and_shows_no_password(server_db: ServerDatabase) -> None:
    user = await make_user(server_db)

    problem = await refusal(server_db.settings(db_user=user, db_pass=WRONG))
    async with opened(server_db.settings(db_user=user, db_pass=PASSWORD)) as catalog:
        await catalog.check()

    assert "DB_USER" in problem
    assert "DB_PASS" in problem
    assert PASSWORD not in problem
    assert WRONG not in problem


async def test_an_unknown_user_needs_the_operator(server_db: ServerDatabase) -> None:
    assert "DB_USER" in await refusal(server_db.settings(db_user="nobody-known"))


@pytest.mark.parametrize("name", ["a.b", "my db", "$x", "a/b"])
async def test_a_name_that_mongodb_does_not_allow_needs_the_operator(name: str) -> None:
    with pytest.raises(ConfigurationError, match="DB_NAME is "):
        open_catalog(elsewhere("mongo", HOST, 1, name), connections=1, timeout_s=1)


async def test_a_later_refusal_names_the_settings_too(server_db: ServerDatabase) -> None:
    user = await make_user(server_db)
    async with opened(server_db.settings(db_user=user, db_pass=WRONG)) as catalog:
        with pytest.raises(Unavailable, match=r"DB_HOST .*\(DB_USER or DB_PASS is refused") as raised:
            await catalog.read([MonitorId(new_id())])
    assert WRONG not in raised.value.reason


@pytest.mark.parametrize("kind", ["postgres", "mysql"])
async def test_another_kind_of_server_makes_the_error_question_db_type(kind: str) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
        await writer.drain()

    async with serving(greet) as port:
        assert f"DB_TYPE is {kind}" in await unavailable(elsewhere(kind, HOST, port))


@pytest.mark.parametrize("kind", ["postgres", "mysql", "mongo"])
async def test_a_server_that_does_not_answer_is_named_with_what_to_look_at(kind: str) -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    id_ = MonitorId("65f0" * 6 if kind == "mongo" else new_id())
    async with serving(silent) as port, opened(elsewhere(kind, HOST, port), timeout_s=0.3) as catalog:
        with pytest.raises(Unavailable) as raised:
            await catalog.read([id_])
    assert raised.value.reason.startswith(f"DB_HOST '{HOST}', DB_PORT {port}: ")
    assert raised.value.reason.endswith("(is it running, reachable from here, and not overloaded?)")


async def test_an_unknown_database_needs_the_operator(server_db: ServerDatabase) -> None:
    settings_ = server_db.settings(db_name="no_such_database")
    # MongoDB creates a database with its first document, so this one may still appear.
    problem = await (unavailable if server_db.kind == "mongo" else refusal)(settings_)

    assert "DB_NAME" in problem
    assert "no_such_database" in problem


async def test_a_missing_right_to_read_needs_the_operator(server_db: ServerDatabase) -> None:
    user = await make_user(server_db, rights=False)

    problem = await refusal(server_db.settings(db_user=user, db_pass=PASSWORD))

    assert "DB_USER" in problem
    assert PASSWORD not in problem


async def test_one_table_that_may_not_be_read_is_a_missing_right_not_a_missing_table(mysql_db: MySqlDatabase) -> None:
    user = await make_user(mysql_db)
    await mysql_db.execute(f"REVOKE SELECT ON {mysql_db.name}.heartbeats FROM {user}@'%'")

    problem = await refusal(mysql_db.settings(db_user=user, db_pass=PASSWORD))

    assert "lacks a right" in problem
    assert "heartbeats" in problem


async def test_the_documented_rights_are_enough_for_all_reads(server_db: ServerDatabase) -> None:
    user = await make_user(server_db)
    ids = [MonitorId(id_) for id_ in await server_db.ids()]

    async with opened(server_db) as by_all, opened(server_db.settings(db_user=user, db_pass=PASSWORD)) as by_user:
        await by_user.check()
        reading = await by_user.read(ids)
        assert in_order(reading) == in_order(await by_all.read(ids))
        assert await by_user.active(None, 5) == await by_all.active(None, 5)
        assert await by_user.active_of(ids) == await by_all.active_of(ids)
        assert await by_user.changed(CREATED_AT, None, 5) == await by_all.changed(CREATED_AT, None, 5)

    assert any(one.proxy for one in reading.found.values())
    assert any(one.maintenances for one in reading.found.values())
    assert any(one.last_heartbeat for one in reading.found.values())


async def test_a_password_that_mongodb_does_not_allow_needs_the_operator(mongo_db: MongoDatabase) -> None:
    problem = await refusal(mongo_db.settings(db_pass="secret \U0001f680"))

    assert "DB_PASS" in problem
    assert "secret" not in problem


@pytest.mark.parametrize("password", ["p@ss:w/o?r#d%41&=+ \\'\"`;$", "ünï 日本", "a" * 100])
async def test_a_password_may_contain_anything(server_db: ServerDatabase, password: str) -> None:
    user = await make_user(server_db)
    await set_password(server_db, user, password)

    async with opened(server_db.settings(db_user=user, db_pass=password)) as catalog:
        await catalog.check()


async def test_a_folder_is_not_an_sqlite_file(tmp_path: Path) -> None:
    assert "folder" in await refusal(settings(db_type="sqlite", db_name=str(tmp_path)))


@pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite format 2\0" + b"\0" * 5000], ids=["text", "other-version"])
async def test_a_file_of_another_kind_is_not_an_sqlite_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)

    assert "not an SQLite file" in await refusal(settings(db_type="sqlite", db_name=str(path)))


async def test_a_missing_file_is_waited_for_and_never_created(tmp_path: Path) -> None:
    path = tmp_path / "later.sqlite"
    where = settings(db_type="sqlite", db_name=str(path))

    async with opened(where) as catalog:
        with pytest.raises(Unavailable, match=r"later\.sqlite'.*\(does the file exist"):
            await catalog.check()
        assert not path.exists()
        shutil.copyfile(SQLITE_FIXTURE, path)
        await catalog.check()


@pytest.mark.parametrize(
    "name",
    [
        "a b.sqlite",
        "a#b.sqlite",
        "a?mode=rw.sqlite",
        "100%41.sqlite",
        "ünï 🚀.sqlite",
        "a&b;c'd\"e.sqlite",
        "%",
        ":memory:",
    ],
)
async def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    shutil.copyfile(SQLITE_FIXTURE, path)
    before = {entry.name for entry in tmp_path.iterdir()}

    async with opened(settings(db_type="sqlite", db_name=str(path))) as catalog:
        await catalog.check()
        monitors, _ = await all_pages(catalog, 1000)

    assert monitors
    assert {entry.name.removesuffix("-shm").removesuffix("-wal") for entry in tmp_path.iterdir()} == before


async def test_a_relative_path_is_taken_from_the_working_folder(
    sqlite_db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sqlite_db.path.parent)

    async with opened(settings(db_type="sqlite", db_name=sqlite_db.path.name)) as catalog:
        await catalog.check()


async def test_a_path_through_a_file_is_reported_and_waited_for(sqlite_db: SqliteDatabase) -> None:
    path = sqlite_db.path / "deeper.sqlite"

    reason = await unavailable(settings(db_type="sqlite", db_name=str(path)))

    assert str(path) in reason


@pytest.mark.parametrize(
    "statement", ["DELETE FROM monitors", "UPDATE monitors SET name = 'x'", "CREATE TABLE t (i INT)"]
)
async def test_the_catalogue_could_not_write_even_if_it_tried(any_sql_db: Database, statement: str) -> None:
    await any_sql_db.insert("monitors", monitor_row())

    async with opened(any_sql_db) as catalog:
        assert isinstance(catalog, SqlCatalog)
        with pytest.raises(Unavailable, match=r"(?i)read.?only"):
            await catalog._batches.do(lambda connection: connection.exec_driver_sql(statement), 10)

    assert len(await any_sql_db.ids()) == 1


async def test_a_damaged_sqlite_file_needs_the_operator(sqlite_db: SqliteDatabase) -> None:
    with sqlite_db.path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 4_000)

    problem = await refusal(sqlite_db)

    assert "DB_NAME" in problem
    assert "damaged" in problem


def elsewhere(kind: str, host: str, port: int, name: str = "peekaping") -> Settings:
    """Return the settings of a database that does not exist."""
    return settings(db_type=kind, db_host=host, db_port=port, db_user="user", db_pass=PASSWORD, db_name=name)
