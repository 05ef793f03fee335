"""At the start: is it there, may we in, and is it Peekaping's? What only a person can mend is one clear error."""

import shutil
import socket
import sqlite3
from pathlib import Path

import pytest

from peekaping_producer.config import Settings
from peekaping_producer.errors import ConfigurationError, Unavailable
from support.catalogues import all_pages, engine, opened
from support.databases import SQLITE_FIXTURE, Database, PostgresDatabase, SqliteDatabase, monitor_row, settings
from support.postgres import GUEST, HOST

PASSWORD = "r1ght-p4ss"
WRONG = "wr0ng-p4ss"


async def refusal(where: Database | Settings) -> str:
    """Return what the check tells the operator, in one line."""
    async with opened(where) as catalog:
        with pytest.raises(ConfigurationError) as raised:
            await catalog.check()
    (problem,) = raised.value.problems
    assert "\n" not in problem
    return problem


async def unavailable(where: Database | Settings) -> str:
    """Return the reason for which the check asks to be tried again, in one line."""
    async with opened(where) as catalog:
        with pytest.raises(Unavailable) as raised:
            await catalog.check()
    assert raised.value.system == "database"
    assert "\n" not in raised.value.reason
    return raised.value.reason


async def test_peekapings_own_database_passes(any_fixture_db: Database) -> None:
    async with opened(any_fixture_db) as catalog:
        await catalog.check()


async def test_columns_and_tables_beyond_those_needed_do_no_harm(any_db: Database) -> None:
    await any_db.execute("ALTER TABLE monitors ADD COLUMN colour TEXT; CREATE TABLE extra (id INTEGER)")

    async with opened(any_db) as catalog:
        await catalog.check()


async def test_everything_that_is_missing_is_named_at_once(any_db: Database) -> None:
    await any_db.execute(
        "DROP TABLE monitor_maintenances;"
        "ALTER TABLE monitors RENAME COLUMN config TO settings;"
        'ALTER TABLE heartbeats RENAME COLUMN "time" TO at;'
        "ALTER TABLE proxies RENAME COLUMN port TO harbour"
    )

    problem = await refusal(any_db)

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

    problem = await refusal(settings(db_type="sqlite", db_name=str(path)))

    for table in ("monitors", "proxies", "maintenances", "monitor_maintenances", "heartbeats"):
        assert f"table {table}" in problem


async def test_a_refused_port_is_a_matter_of_time_and_says_where() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))  # bound, not listening: a connection is refused
        port = taken.getsockname()[1]
        where = settings(
            db_type="postgres", db_host=HOST, db_port=port, db_user="user", db_pass=PASSWORD, db_name="peekaping"
        )
        reason = await unavailable(where)

    assert HOST in reason
    assert str(port) in reason
    assert PASSWORD not in reason


async def test_a_host_without_an_address_is_a_matter_of_time() -> None:
    where = settings(
        db_type="postgres", db_host="no.such.invalid", db_port=5432, db_user="user", db_pass=PASSWORD, db_name="x"
    )

    reason = await unavailable(where)

    assert "no.such.invalid" in reason
    assert PASSWORD not in reason


async def test_a_refused_login_names_the_variables_and_shows_no_password(postgres_db: PostgresDatabase) -> None:
    await postgres_db.execute(
        f"DO $$ BEGIN CREATE ROLE {GUEST} LOGIN PASSWORD '{PASSWORD}';"
        " EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {GUEST}"
    )

    problem = await refusal(postgres_db.settings(db_user=GUEST, db_pass=WRONG))
    async with opened(postgres_db.settings(db_user=GUEST, db_pass=PASSWORD)) as catalog:
        await catalog.check()

    assert "DB_USER" in problem
    assert "DB_PASS" in problem
    assert PASSWORD not in problem
    assert WRONG not in problem


async def test_an_unknown_user_is_the_operators(postgres_db: PostgresDatabase) -> None:
    assert "DB_USER" in await refusal(postgres_db.settings(db_user="nobody-known"))


async def test_an_unknown_database_is_the_operators(postgres_db: PostgresDatabase) -> None:
    problem = await refusal(postgres_db.settings(db_name="no_such_database"))

    assert "DB_NAME" in problem
    assert "no_such_database" in problem


async def test_a_folder_is_no_sqlite_file(tmp_path: Path) -> None:
    assert "folder" in await refusal(settings(db_type="sqlite", db_name=str(tmp_path)))


@pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite format 2\0" + b"\0" * 5000], ids=["text", "other-version"])
async def test_a_file_of_another_kind_is_no_sqlite_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)

    assert "not an SQLite file" in await refusal(settings(db_type="sqlite", db_name=str(path)))


async def test_an_absent_file_is_waited_for_and_never_made(tmp_path: Path) -> None:
    path = tmp_path / "later.sqlite"
    where = settings(db_type="sqlite", db_name=str(path))

    async with opened(where) as catalog:
        with pytest.raises(Unavailable, match=r"later\.sqlite"):
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


async def test_a_path_that_leads_through_a_file_is_told_and_waited_for(sqlite_db: SqliteDatabase) -> None:
    path = sqlite_db.path / "deeper.sqlite"

    reason = await unavailable(settings(db_type="sqlite", db_name=str(path)))

    assert str(path) in reason


@pytest.mark.parametrize(
    "statement", ["DELETE FROM monitors", "UPDATE monitors SET name = 'x'", "CREATE TABLE t (i INT)"]
)
async def test_the_catalogue_could_not_write_even_if_it_tried(any_db: Database, statement: str) -> None:
    await any_db.insert("monitors", monitor_row())

    async with opened(any_db) as catalog, engine(catalog).connect() as connection:
        with pytest.raises(Exception, match=r"(?i)read.?only"):
            await connection.exec_driver_sql(statement)

    assert len(await any_db.ids()) == 1


async def test_a_damaged_sqlite_file_is_the_operators(sqlite_db: SqliteDatabase) -> None:
    with sqlite_db.path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 4_000)

    problem = await refusal(sqlite_db)

    assert "DB_NAME" in problem
    assert "damaged" in problem


async def test_a_missing_right_to_read_is_the_operators(postgres_db: PostgresDatabase) -> None:
    await postgres_db.execute(
        f"DO $$ BEGIN CREATE ROLE {GUEST} LOGIN PASSWORD '{PASSWORD}';"
        " EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {GUEST}"
    )

    problem = await refusal(postgres_db.settings(db_user=GUEST, db_pass=PASSWORD))

    assert "SELECT" in problem
    assert PASSWORD not in problem
