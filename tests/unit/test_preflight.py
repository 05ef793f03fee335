"""What the findings of `check` say, and how they are printed."""

import contextlib
import io
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from peekaping_producer.asynq.queue import QueueState, Waiting
from peekaping_producer.catalog.reading import Counts, Facts
from peekaping_producer.commands.check import Report
from peekaping_producer.config.fields import Switch
from peekaping_producer.config.origins import Origin, ShownSetting, shown_settings
from peekaping_producer.config.settings import ScheduleMode, Settings
from peekaping_producer.errors import ConfigurationError, Unavailable
from peekaping_producer.fleet.registry import NodeInfo
from peekaping_producer.preflight.database import count_findings, database_findings
from peekaping_producer.preflight.deployment import Producers, producer_findings, queue_findings
from peekaping_producer.preflight.finding import Area, Finding, Level, failures, worst
from peekaping_producer.preflight.redis_server import RedisServer, redis_findings
from peekaping_producer.redisdb.memory import Memory

GOOD_MEMORY = Memory(3_000_000, 0, "noeviction")


def redis_finding(topic: str, **fields: Any) -> Finding:
    """Return the finding of one topic about a good server with these fields."""
    good: dict[str, Any] = {
        "kind": "Redis",
        "version": "7.4.0",
        "role": "master",
        "replicas": 0,
        "memory": GOOD_MEMORY,
        "monitors": 10_000,
        "tasks": 0,
        "append_only": False,
        "save": "",
        "latency_ms": 0.2,
        "clock_ahead_s": 0.0,
    }
    (found,) = [one for one in redis_findings(RedisServer(**{**good, **fields})) if one.topic == topic]
    return found


@pytest.mark.parametrize(
    ("topic", "fields", "level", "what"),
    [
        ("server", {}, Level.OK, "Redis 7.4.0 answers"),
        ("role", {}, Level.OK, "it is the primary"),
        ("role", {"replicas": 1}, Level.OK, "it is the primary, 1 connected replica"),
        ("role", {"replicas": 2}, Level.OK, "it is the primary, 2 connected replicas"),
        (
            "maxmemory-policy",
            {"memory": replace(GOOD_MEMORY, policy=None)},
            Level.OK,
            "maxmemory-policy could not be read; it should be noeviction",
        ),
        ("memory", {}, Level.OK, "it uses 3 MB and maxmemory is not set"),
        ("memory", {"memory": Memory(3_000_000, 20_000_000, "noeviction")}, Level.OK, "it uses 3 MB of 20 MB"),
        (
            "memory",
            {"memory": Memory(14_000_000, 20_000_000, "noeviction"), "tasks": 2_000},
            Level.WARNING,
            "Redis has 6 MB left below maxmemory; one waiting check for each of 10,000 monitors would take 8 MB more",
        ),
        ("persistence", {"append_only": True, "save": None}, Level.OK, "data is saved by appendonly"),
        (
            "persistence",
            {"append_only": True, "save": "60 1"},
            Level.OK,
            "data is saved by appendonly and snapshots (save 60 1)",
        ),
        ("persistence", {"save": None}, Level.OK, "could not read whether data is saved"),
        ("persistence", {"append_only": None}, Level.OK, "could not read whether data is saved"),
        ("latency", {}, Level.OK, "a command takes 0.2 ms"),
        ("latency", {"latency_ms": 120.0}, Level.WARNING, "a command takes 120.0 ms"),
        ("clock", {"clock_ahead_s": -0.25}, Level.OK, "its clock differs from this host's by 250 ms"),
        ("clock", {"clock_ahead_s": -7200.0}, Level.WARNING, "its clock is 7,200.0 s behind this host's"),
        ("clock", {"clock_ahead_s": 1.5}, Level.WARNING, "its clock is 1.5 s ahead of this host's"),
    ],
)
def test_what_is_said_about_redis(topic: str, fields: dict[str, Any], level: Level, what: str) -> None:
    found = redis_finding(topic, **fields)
    assert (found.area, found.level, found.what) == (Area.REDIS, level, what)
    assert (found.to_do is not None) == (level is Level.WARNING)


@pytest.mark.parametrize(("tls", "ending"), [(True, ", over TLS"), (False, ", without TLS"), (None, "")])
def test_whether_the_connection_is_encrypted(tls: bool | None, ending: str) -> None:
    server, tables = database_findings(Facts("PostgreSQL", "18.6", ("monitors",), tls))
    assert server.what == f"PostgreSQL 18.6 answers{ending}"
    assert tables.what.startswith("monitors can be read")


@pytest.mark.parametrize(
    ("counts", "level", "beginning"),
    [
        (Counts(3, 2, more=False), Level.OK, "there are 3 monitors, 2 of them active"),
        (Counts(3, 0, more=False), Level.WARNING, "there are 3 monitors, none of them active"),
        (Counts(100_000, 0, more=True), Level.OK, "there are more than 100,000 monitors"),
    ],
)
def test_how_many_monitors_there_are(counts: Counts, level: Level, beginning: str) -> None:
    (found,) = count_findings(counts)
    assert found.level is level
    assert found.what.startswith(beginning)


def test_a_large_fleet_is_not_listed_whole() -> None:
    nodes = [NodeInfo(id=f"node-{number}", version="0.1.0") for number in range(12)]
    (found,) = producer_findings(Producers(nodes, None, go_seen=False), ScheduleMode.SPREAD)
    assert found.what.endswith("node-9 (version 0.1.0), and 2 more")


@pytest.mark.parametrize(("go_seen", "warned"), [(True, ["retry-interval"]), (False, [])])
def test_a_retry_interval_that_a_go_producer_ignores(go_seen: bool, warned: list[str]) -> None:
    found = producer_findings(Producers([], None, go_seen=go_seen), ScheduleMode.AUTO, Switch.ON)
    assert [one.topic for one in found if one.level is Level.WARNING] == warned


def test_what_is_said_about_the_queue() -> None:
    state = QueueState(
        paused=False,
        workers=2,
        pending=1_000,
        active=0,
        scheduled=0,
        retry=0,
        archived=0,
        completed=0,
        oldest=Waiting("an-id", 61.0, 60),
    )
    (slow,) = queue_findings(state)
    assert (slow.level, slow.to_do) == (Level.WARNING, "start more workers")
    (well,) = queue_findings(QueueState(False, 1, 0, 0, 0, 0, 0, 0, None))
    assert well.what == "1 worker process takes checks from the queue; 0 waiting"


OK = Finding(Area.REDIS, "role", Level.OK, "it is the primary")
WARNING = Finding(Area.REDIS, "clock", Level.WARNING, "it differs", "correct it")
(DOWN,) = failures(Area.DATABASE, "server", Unavailable("database", "no answer"))
WRONG = failures(Area.SETTINGS, "variable", ConfigurationError("A is wrong", "B is wrong"))


@pytest.mark.parametrize(
    ("findings", "exit_code", "summary"),
    [
        ([], 0, "all is well"),
        ([OK], 0, "all is well"),
        ([OK, WARNING, OK], 0, "1 warning"),
        ([WARNING, DOWN, WARNING], 1, "1 is unavailable, 2 warnings"),
        ([*WRONG, DOWN, WARNING], 2, "2 things must be changed, 1 is unavailable, 1 warning"),
    ],
)
def test_the_worst_finding_decides(findings: list[Finding], exit_code: int, summary: str) -> None:
    report = Report("0.1.0", worst(findings), [], findings)
    assert (report.exit_code, [*report.text()][-1]) == (exit_code, summary)


@pytest.mark.parametrize(("encoding", "marks"), [("utf-8", "✓!✗"), ("ascii", "+!x")])
def test_a_terminal_gets_marks_that_it_has(encoding: str, marks: str) -> None:
    report = Report("0.1.0", Level.UNAVAILABLE, [], [OK, WARNING, DOWN])
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding)):
        lines = [*report.text()]
    assert lines[:3] == [
        f"{marks[0]} redis       it is the primary",
        f"{marks[1]} redis       it differs (correct it)",
        f"{marks[2]} database    no answer",
    ]


def test_a_secret_in_a_file_has_that_origin(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DB_PASS_FILE=/run/secrets/db\nLOG_LEVEL=info\n")
    with patch.dict("os.environ", {"LOG_LEVEL": "warn"}, clear=True):
        shown = {one.variable: one for one in shown_settings(None, tmp_path / ".env")}
    assert set(shown) == {name.upper() for name in Settings.model_fields}
    assert shown["DB_PASS"] == ShownSetting("DB_PASS", None, Origin.NAMED_FILE)
    assert shown["LOG_LEVEL"] == ShownSetting("LOG_LEVEL", None, Origin.ENVIRONMENT)
    assert shown["TZ"] == ShownSetting("TZ", "UTC", Origin.DEFAULT)
    assert shown["DB_NAME"] == ShownSetting("DB_NAME", None, Origin.UNSET)
    report = Report("0.1.0", Level.OK, [shown["DB_PASS"]], [])
    assert next(report.text()).endswith("DB_PASS is read from the file that DB_PASS_FILE names")


def test_the_file_of_a_secret_that_is_not_used_is_not_an_origin() -> None:
    settings = Settings(db_type="sqlite", db_name="x")  # type: ignore[arg-type]
    with patch.dict("os.environ", {"DB_PASS_FILE": "/run/secrets/db"}, clear=True):
        shown = {one.variable: one for one in shown_settings(settings, Path("none"))}
    assert shown["DB_PASS"] == ShownSetting("DB_PASS", None, Origin.UNSET)
    assert shown["DB_PASS_FILE"] == ShownSetting("DB_PASS_FILE", None, Origin.ENVIRONMENT)


def test_what_no_variable_of_its_name_sets_comes_from_an_address() -> None:
    settings = Settings(db_type="sqlite", db_name="x", redis_host="elsewhere")  # type: ignore[arg-type]
    with patch.dict("os.environ", {}, clear=True):
        shown = {one.variable: one for one in shown_settings(settings, Path("none"))}
    assert shown["REDIS_HOST"] == ShownSetting("REDIS_HOST", "elsewhere", Origin.URL)
    assert shown["REDIS_PORT"] == ShownSetting("REDIS_PORT", 6379, Origin.DEFAULT)


def test_a_file_that_cannot_be_read_hides_no_other_origin(tmp_path: Path) -> None:
    with patch.dict("os.environ", {"DB_TYPE": "sqlite"}, clear=True):
        shown = {one.variable: one.origin for one in shown_settings(None, tmp_path)}
    assert (shown["DB_TYPE"], shown["DB_NAME"]) == (Origin.ENVIRONMENT, Origin.UNSET)
