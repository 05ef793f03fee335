"""The sample monitors, and the SQLite file in Peekaping's schema that holds them."""

import sqlite3
import uuid
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import msgspec
from msgspec import Struct

from peekaping_producer.demo.clock import database_time
from peekaping_producer.demo.redis_server import HOST
from peekaping_producer.demo.targets import Targets
from peekaping_producer.model.monitor import MonitorId

PUSH = "nightly backup (push)"
_DAY_MS = 24 * 3600 * 1000
_MONITOR = (
    "INSERT INTO monitors (id, type, name, interval, timeout, max_retries, retry_interval, resend_interval, active,"
    " status, created_at, updated_at, config, proxy_id, push_token)"
    " VALUES (?, ?, ?, ?, ?, 0, ?, 0, 1, 2, ?, ?, ?, NULL, ?)"
)


class Sample(Struct, frozen=True):
    """One sample monitor."""

    id: MonitorId
    name: str
    type: str
    config: str
    interval_s: int
    timeout_s: int
    push_token: str | None = None
    in_maintenance: bool = False


def sample_monitors(targets: Targets, interval_s: int, count: int | None) -> list[Sample]:
    """Return a dozen monitors with names, or `count` generated ones."""
    if count is None:
        return _named(targets, interval_s)
    kinds = _generated(targets)
    return [
        _sample(f"{kinds[n % len(kinds)][0]} {n + 1}", *kinds[n % len(kinds)][1:], interval_s=interval_s)
        for n in range(count)
    ]


def create_database(path: Path, monitors: Sequence[Sample], now_ms: int) -> None:
    """Create the file, in WAL mode, with these monitors. They are a day old: new monitors would be due at once."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(files(__package__).joinpath("schema.sql").read_text())
        with connection:
            connection.executemany(_MONITOR, (_row(monitor, database_time(now_ms - _DAY_MS)) for monitor in monitors))
            _add_maintenance(connection, [monitor.id for monitor in monitors if monitor.in_maintenance])
    finally:
        connection.close()


def _named(targets: Targets, interval_s: int) -> list[Sample]:
    http, tcp = _http, _tcp
    rows: list[tuple[str, str, str]] = [
        ("front page", "http", http(targets, "/healthy")),
        ("shop", "http", http(targets, "/healthy")),
        ("API", "http", http(targets, "/healthy")),
        ("documentation", "http", http(targets, "/healthy")),
        ("status page", "http", http(targets, "/healthy")),
        ("slow report", "http", http(targets, "/slow")),
        ("flapping service", "http", http(targets, "/flapping")),
        ("hanging service", "http", http(targets, "/hanging")),
        ("broken service", "http", http(targets, "/broken")),
        ("mail server", "tcp", tcp(targets.tcp_port)),
        ("refused port", "tcp", tcp(targets.refused_port)),
    ]
    return [
        *(_sample(*row, interval_s=interval_s) for row in rows),
        _sample(PUSH, "push", '{"pushToken": "demo"}', interval_s=interval_s, push_token="demo"),  # noqa: S106
        _sample("being upgraded", "http", http(targets, "/broken"), interval_s=interval_s, in_maintenance=True),
    ]


def _generated(targets: Targets) -> list[tuple[str, str, str]]:
    return [
        ("page", "http", _http(targets, "/healthy")),
        ("service", "tcp", _tcp(targets.tcp_port)),
        ("shop", "http", _http(targets, "/healthy")),
        ("flapping page", "http", _http(targets, "/flapping")),
        ("refused port", "tcp", _tcp(targets.refused_port)),
    ]


def _sample(
    name: str,
    kind: str,
    config: str,
    *,
    interval_s: int,
    push_token: str | None = None,
    in_maintenance: bool = False,
) -> Sample:
    # Derived from the name, so that every demo has the same grid.
    monitor_id = MonitorId(str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.demo.invalid")))
    timeout_s = max(1, interval_s // 2)
    return Sample(monitor_id, name, kind, config, interval_s, timeout_s, push_token, in_maintenance)


def _http(targets: Targets, path: str) -> str:
    fields = {"url": targets.url(path), "method": "GET", "accepted_statuscodes": ["2XX"], "authMethod": "none"}
    return msgspec.json.encode(fields).decode()


def _tcp(port: int) -> str:
    return msgspec.json.encode({"host": HOST, "port": port}).decode()


def _row(monitor: Sample, created_at: str) -> tuple[object, ...]:
    return (
        *(monitor.id, monitor.type, monitor.name, monitor.interval_s, monitor.timeout_s, monitor.interval_s),
        *(created_at, created_at, monitor.config, monitor.push_token),
    )


def _add_maintenance(connection: sqlite3.Connection, monitor_ids: Sequence[str]) -> None:
    maintenance_id = str(uuid.uuid4())
    connection.execute(
        "INSERT INTO maintenances (id, title, active, strategy) VALUES (?, 'upgrade', 1, 'manual')", (maintenance_id,)
    )
    connection.executemany(
        "INSERT INTO monitor_maintenances (id, monitor_id, maintenance_id) VALUES (?, ?, ?)",
        [(str(uuid.uuid4()), monitor_id, maintenance_id) for monitor_id in monitor_ids],
    )
