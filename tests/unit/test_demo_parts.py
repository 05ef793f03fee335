"""The demo's smaller parts: its database, ledger, folder and plan."""

import fcntl
import sqlite3
import tempfile
from pathlib import Path

import pytest

from peekaping_producer.demo.breakage import Breakage, Plan
from peekaping_producer.demo.checks import Status, Verdict
from peekaping_producer.demo.clock import database_time
from peekaping_producer.demo.folder import PREFIX, demo_folder
from peekaping_producer.demo.history import History
from peekaping_producer.demo.ledger import Finished, LedgerReader, LedgerWriter, Taken
from peekaping_producer.demo.payload import read_check
from peekaping_producer.demo.results import Result, Results
from peekaping_producer.demo.sample import PUSH, Sample, create_database, sample_monitors
from peekaping_producer.demo.targets import Targets

FIXTURE = Path(__file__).parents[1] / "fixtures" / "peekaping-0.0.46.sqlite"
TABLES = ("monitors", "proxies", "maintenances", "monitor_maintenances", "heartbeats")
NOW = 1_700_000_000_500


def samples(count: int | None = None) -> list[Sample]:
    """Return sample monitors of a made-up set of targets."""
    return sample_monitors(Targets(1, 2, 3), 5, count)


def columns(connection: sqlite3.Connection, table: str) -> list[tuple[object, ...]]:
    """Return the columns' names, types, defaults and whether they may be NULL."""
    return [row[1:] for row in connection.execute(f"PRAGMA table_info({table})")]


def test_the_tables_are_peekapings(tmp_path: Path) -> None:
    create_database(tmp_path / "ours.sqlite", samples(), NOW)
    ours = sqlite3.connect(tmp_path / "ours.sqlite")
    theirs = sqlite3.connect(f"{FIXTURE.as_uri()}?immutable=1", uri=True)
    for table in TABLES:
        assert columns(ours, table) == columns(theirs, table)
    indexes = (
        "SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN (?,?,?,?,?)"
    )
    assert set(ours.execute(indexes, TABLES)) == set(theirs.execute(indexes, TABLES))
    assert ours.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    ours.close()
    theirs.close()


def test_many_samples_have_ids_and_names_of_their_own() -> None:
    many = samples(5_000)
    assert len({monitor.id for monitor in many}) == len({monitor.name for monitor in many}) == 5_000
    assert samples(5_000) == many


def test_the_named_samples_are_of_every_kind() -> None:
    named = samples()
    assert {monitor.type for monitor in named} == {"http", "tcp", "push"}
    assert [monitor.name for monitor in named if monitor.in_maintenance] == ["being upgraded"]
    assert PUSH in {monitor.name for monitor in named}


def test_results_become_heartbeats_and_a_changed_status(tmp_path: Path) -> None:
    page, push = samples()[0], next(monitor for monitor in samples() if monitor.name == PUSH)
    create_database(tmp_path / "d.sqlite", samples(), NOW)
    with Results(tmp_path / "d.sqlite") as results:
        for _ in range(2):
            results.write(
                [
                    Result(page.id, "http", NOW, NOW + 20, Verdict(Status.UP, "200 OK", 20)),
                    Result(push.id, "push", NOW, NOW + 20, Verdict(Status.UP, "pushed", 0)),
                ]
            )
    connection = sqlite3.connect(tmp_path / "d.sqlite")
    beats = connection.execute(
        "SELECT monitor_id, status, ping, important, time FROM heartbeats ORDER BY rowid"
    ).fetchall()
    status = connection.execute("SELECT status, updated_at FROM monitors WHERE id = ?", (push.id,)).fetchone()
    connection.close()
    at = "2023-11-14 22:13:20.5+00:00"
    assert beats == [(page.id, 1, 20, 1, at), (page.id, 1, 20, 0, at)]
    assert status == (1, database_time(NOW + 20))


def test_a_ledger_is_read_as_it_grows_but_not_its_unfinished_line(tmp_path: Path) -> None:
    reader = LedgerReader(tmp_path)
    first, second = Taken("m", 1, 2), Finished("m", 1, 3, "up", 4, "200 OK")
    writer = LedgerWriter(tmp_path / "worker-1.ledger")
    assert list(reader.new_entries()) == []
    writer.write([first])
    assert list(reader.new_entries()) == [[first]]
    writer.write([second])
    writer.close()
    with (tmp_path / "worker-1.ledger").open("ab") as torn:
        torn.write(b'["taken","m"')
    other = LedgerWriter(tmp_path / "worker-2.ledger")
    other.write([first])
    other.close()
    assert list(reader.new_entries()) == [[second], [first]]
    assert list(reader.new_entries()) == []


def test_every_check_is_in_exactly_one_column_of_the_book() -> None:
    first, second = (monitor.id for monitor in samples()[:2])
    history = History(samples())
    history.add(Taken(id_, at_ms, at_ms) for id_ in (first, second) for at_ms in (NOW, NOW + 5_000))
    history.add([Finished(first, NOW, NOW + 1, "up", 1, "200 OK")])
    assert history.ends == {"up": 1, "unfinished": 3}
    # Its worker died: the queue shows one more that the ledger does not have, and one finished without an entry.
    history.interrupted(first, NOW + 5_000, NOW + 5_000, NOW + 35_000)
    history.interrupted(second, NOW + 10_000, NOW + 10_000, NOW + 40_000)
    history.worker_died(NOW + 12_000)
    assert history.ends == {"up": 1, "killed": 4, "unfinished": 0}
    history.add([Taken(first, NOW + 40_000, NOW + 40_000)])
    assert (history.ends["unfinished"], history.runs) == (1, 6)
    assert history.has_taken(first, NOW)
    assert not history.has_taken(first, NOW + 45_000)


def test_the_folder_is_private_and_goes_and_sweeps_what_the_killed_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, alive, foreign = (tmp_path / f"{PREFIX}{name}" for name in ("killed", "alive", "foreign"))
    for folder in (killed, alive, foreign):
        folder.mkdir()
    for folder in (killed, alive):
        (folder / "lock").touch()
    with (alive / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with demo_folder() as folder:
            assert folder.stat().st_mode & 0o777 == 0o700
            assert Path(tempfile.gettempdir()) == folder
            assert set(tmp_path.iterdir()) == {alive, foreign, folder}
    assert set(tmp_path.iterdir()) == {alive, foreign}
    assert tempfile.gettempdir() == str(tmp_path)


def test_a_plan_with_an_end_breaks_everything_once() -> None:
    plan, done = Plan(100), []
    while breakage := plan.due(100):
        done.append(breakage)
        plan.advance()
    assert sorted(done) == sorted(Breakage)
    assert Plan(100).due(5) is None


def test_a_plan_without_an_end_begins_again() -> None:
    plan = Plan(None)
    for _ in Breakage:
        assert plan.due(89)
        plan.advance()
    assert plan.due(89) is None
    assert plan.due(180) is Breakage.WORKER


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (b'{"monitor_type":"http","interval":20.5}', "interval"),
        (b'{"monitor_type":"http","is_under_maintenance":1}', "is_under_maintenance"),
        (b'{"monitor_type":"http","scheduled_at":"2026-11-24T10:00:00"}', "zone"),
        (b'{"interval":20}', "monitor_type"),
        (b"", "truncated"),
    ],
)
def test_payloads_that_archive_a_task(payload: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_check(payload)


def test_a_check_is_stale_after_one_and_a_half_intervals() -> None:
    check = read_check(b'{"monitor_type":"http","interval":20,"scheduled_at":"2023-11-14T22:13:20.5Z"}')
    assert check.scheduled_ms == NOW
    assert not check.is_stale(NOW + 30_000)
    assert check.is_stale(NOW + 30_001)
    assert read_check(b'{"monitor_type":"http"}').is_stale(NOW)
