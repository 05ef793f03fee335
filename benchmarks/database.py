"""Databases in Peekaping's schema, filled with monitors: created with the fixtures of the tests."""

import asyncio
import shutil
import sqlite3
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
from msgspec import Struct

from peekaping_producer.config.settings import Settings
from peekaping_producer.model.monitor import MonitorId

TESTS = Path(__file__).parent.parent / "tests"
sys.path.append(str(TESTS))
from support.postgres import HOST, SUPERUSER, Postgres  # noqa: E402 - the line above lets it be found

FIXTURES = TESTS / "fixtures"
POSTGRES_DUMP = FIXTURES / "peekaping-0.0.46.postgres.sql"
SQLITE_FILE = FIXTURES / "peekaping-0.0.46.sqlite"

CONFIGS = {
    "http": '{"url": "https://shop.example.org/health", "method": "GET", "headers": "{\\"Accept\\": \\"*/*\\"}", '
    '"encoding": "json", "body": "", "accepted_statuscodes": ["2XX"], "max_redirects": 10, '
    '"ignore_tls_errors": false, "authMethod": "none", "check_cert_expiry": true}',
    "tcp": '{"host": "db.example.org", "port": 5432}',
    "ping": '{"host": "router.example.org", "packet_size": 32}',
    "push": '{"pushToken": "bench"}',
}
"""What the monitors check, by type."""
TYPES = ("http",) * 14 + ("tcp",) * 3 + ("ping",) * 2 + ("push",)
"""Assigned in rotation: of 20 monitors, 14 are http, 3 tcp, 2 ping, and one is push and has a heartbeat."""
PROXY_EVERY = 20
MAINTENANCE_EVERY = 25
"""One in this many monitors has a proxy, and one in this many a maintenance."""
NEWEST = datetime.fromisoformat("2026-01-02T03:04:05")
"""When the newest monitor was created: long ago, since what is new is checked at once. The others are a minute apart,
since those updated at about the same time as the newest are read at each poll for changes."""
PROXY, MAINTENANCE = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
LOADED_TABLES = ("heartbeats", "monitor_maintenances", "monitors", "maintenances", "proxies")
"""Emptied before the load, in this order."""


class Database(Struct, frozen=True):
    """A database for a producer."""

    kind: str
    """`postgres` or `sqlite`."""
    settings: dict[str, str]
    """The DB_* variables."""
    ids: tuple[MonitorId, ...]
    pid: int | None
    """The server's process, if there is one."""


def settings_of(database: Database) -> Settings:
    """Return the producer's settings for this database, with the defaults for Redis."""
    return Settings.model_validate({name.lower(): value for name, value in database.settings.items()})


Rows = dict[str, list[tuple[object, ...]]]
"""By table, in the order of `COLUMNS`."""
COLUMNS = {
    "proxies": "id protocol host port auth",
    "maintenances": "id title active strategy cron timezone duration start_date_time end_date_time",
    "monitors": "id type name interval timeout max_retries retry_interval resend_interval active status config "
    "proxy_id created_at updated_at",
    "monitor_maintenances": "id monitor_id maintenance_id",
    "heartbeats": "id monitor_id status msg ping duration down_count retries important notified",
}


def make_rows(monitors: int, interval_s: int) -> Rows:
    """Return a realistic mixture of monitors, and the rows that belong to them."""
    rows: Rows = {table: [] for table in COLUMNS}
    rows["proxies"].append((PROXY, "http", "proxy.example.org", 3128, False))
    window = "2026-01-01T00:00", "2036-01-01T00:00"
    rows["maintenances"].append(
        (MAINTENANCE, "Nightly backup", True, "cron", "0 2 * * *", "Europe/Berlin", 60, *window)
    )
    for number in range(monitors):
        id_, type_ = str(uuid.uuid4()), TYPES[number % len(TYPES)]
        proxy = PROXY if number % PROXY_EVERY == 0 else None
        settings = interval_s, 16, 2, 60, 0, True, 1, CONFIGS[type_], proxy
        created = NEWEST - timedelta(minutes=number)
        rows["monitors"].append((id_, type_, f"Monitor {number}", *settings, created, created))
        if number % MAINTENANCE_EVERY == 0:
            rows["monitor_maintenances"].append((str(uuid.uuid4()), id_, MAINTENANCE))
        if type_ == "push":
            rows["heartbeats"].append((str(uuid.uuid4()), id_, 1, "OK", 12, 0, 0, 0, False, False))
    return rows


def _ids(rows: Rows) -> tuple[MonitorId, ...]:
    return tuple(MonitorId(str(row[0])) for row in rows["monitors"])


@contextmanager
def sqlite_database(monitors: int, interval_s: int) -> Iterator[Database]:
    """Create a SQLite file with this many active monitors."""
    rows = make_rows(monitors, interval_s)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder) / "peekaping.sqlite"
        shutil.copyfile(SQLITE_FILE, file)
        connection = sqlite3.connect(file)
        try:
            with connection:
                for table in LOADED_TABLES:
                    connection.execute(f"DELETE FROM {table}")
                for table, columns in COLUMNS.items():
                    names = columns.split()
                    slots = ", ".join("?" * len(names))
                    insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({slots})"
                    connection.executemany(insert, map(_as_sqlite, rows[table]))
        finally:
            connection.close()
        yield Database("sqlite", {"DB_TYPE": "sqlite", "DB_NAME": str(file)}, _ids(rows), None)


def _as_sqlite(row: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(value.isoformat(" ") if isinstance(value, datetime) else value for value in row)


class _RoomyPostgres(Postgres):
    """A Postgres whose own memory holds all monitors, as one has that is set up for so many."""

    shared_buffers = "2GB"


@contextmanager
def postgres_database(monitors: int, interval_s: int) -> Iterator[Database]:
    """Start a Postgres with a database of this many active monitors."""
    rows = make_rows(monitors, interval_s)
    with _RoomyPostgres() as server:
        settings = {
            "DB_TYPE": "postgres",
            "DB_HOST": HOST,
            "DB_PORT": str(server.port),
            "DB_USER": SUPERUSER,
            "DB_PASS": "not asked for",
            "DB_NAME": "postgres",
        }
        asyncio.run(_fill_postgres(settings, rows))
        yield Database("postgres", settings, _ids(rows), server.pid)


async def connect_postgres(settings: dict[str, str]) -> asyncpg.Connection:
    """Connect by the DB_* variables, without SQLAlchemy."""
    return await asyncpg.connect(
        host=settings["DB_HOST"],
        port=int(settings["DB_PORT"]),
        user=settings["DB_USER"],
        password=settings["DB_PASS"],
        database=settings["DB_NAME"],
    )


async def _fill_postgres(settings: dict[str, str], rows: Rows) -> None:
    connection = await connect_postgres(settings)
    try:
        await connection.execute(POSTGRES_DUMP.read_text("utf-8"))
        await connection.execute("SET search_path TO public")
        async with connection.transaction():
            await connection.execute(f"TRUNCATE {', '.join(LOADED_TABLES)} CASCADE")
            for table, columns in COLUMNS.items():
                await connection.copy_records_to_table(table, records=rows[table], columns=columns.split())
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
