"""What an event says (docs/protocol.md, section 3), and when its monitor is read: at once, and again seconds later."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from peekaping_producer.errors import CorruptRecord
from peekaping_producer.leader.event_message import CREATED, DELETED, UPDATED, Event, read_event
from peekaping_producer.leader.event_queue import ReadQueue
from peekaping_producer.model.ids import is_monitor_id
from peekaping_producer.model.monitor import MonitorId, Schedulable
from vectors.vectors import load

ID = MonitorId("76241da2-8b1e-438b-ae8d-af25db5f297a")
OTHER = MonitorId("af2998c7-085d-4316-8803-08850449b450")
CHANNELS = (CREATED, UPDATED, DELETED)
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

RECORDED = [
    pytest.param(event["channel"], event["data"], event["message"], id=f"{run['database']}-{step['n']}-{step['what']}")
    for run in load("events")["runs"]
    for step in run["steps"]
    for event in step["events"]
]


def message(payload: object, **more: object) -> bytes:
    return json.dumps({"type": "monitor", "payload": payload, **more}).encode()


# --- what the API server published


@pytest.mark.parametrize(("channel", "data", "parsed"), [case for case in RECORDED if case.values[0] in CHANNELS])
def test_every_recorded_event_of_a_monitor_is_understood(channel: str, data: str, parsed: dict[str, Any]) -> None:
    event = read_event(channel, data.encode())
    payload = parsed["payload"]
    if payload is None:
        assert event is None
    elif channel == DELETED:
        assert event == Event(MonitorId(payload), gone=True)
    else:
        assert event == Event(MonitorId(payload["id"]), gone=not payload["active"])


def test_the_recorded_events_show_every_kind() -> None:
    kinds = {(case.values[0], type(case.values[2]["payload"]).__name__) for case in RECORDED}  # type: ignore[index]
    assert kinds >= {(CREATED, "dict"), (UPDATED, "dict"), (UPDATED, "NoneType"), (DELETED, "str")}


# --- what else may come


@pytest.mark.parametrize("channel", [CREATED, UPDATED])
def test_an_id_is_all_that_a_row_needs(channel: str) -> None:
    assert read_event(channel, message({"id": ID})) == Event(ID, gone=False)
    assert read_event(channel, message({"id": ID, "active": True})) == Event(ID, gone=False)
    assert read_event(channel, message({"id": ID, "active": False})) == Event(ID, gone=True)


def test_an_id_in_upper_case_is_the_same_monitor() -> None:
    assert read_event(UPDATED, message({"id": ID.upper()})) == Event(ID, gone=False)
    assert read_event(DELETED, message(ID.upper())) == Event(ID, gone=True)


@pytest.mark.parametrize("channel", [CREATED, UPDATED])
def test_an_event_without_a_monitor_is_ignored(channel: str) -> None:
    assert read_event(channel, message(None)) is None


@pytest.mark.parametrize("channel", [CREATED, UPDATED])
def test_whatever_else_a_row_holds_is_not_looked_at(channel: str) -> None:
    row = {
        "id": ID,
        "interval": "often",
        "config": {"a": [1, 2.5, None]},
        "created_at": 7,
        "name": "\u2028\x00é" * 100_000,
        "created": "x" * 5_000_000,
    }
    assert read_event(channel, message(row, id="nothing", more=[[]])) == Event(ID, gone=False)


def test_of_two_ids_the_last_counts_as_in_every_reader_of_json() -> None:
    text = f'{{"payload": {{"id": "{OTHER}", "id": "{ID}", "active": true, "active": false}}}}'
    assert read_event(UPDATED, text.encode()) == Event(ID, gone=True)


NOT_JSON = [b"", b" ", b"{", b"\xff\xfe", b'{"payload": "\xff"}', b"null", b"[]", b"7", b'"text"', b"NaN", b"{} {}"]
NO_ID: list[object] = ["", "no-id", f" {ID}", f"{ID} ", ID[:-1], f"{ID}0", ID.replace("-", ""), f"{{{ID}}}", "é" * 36]


@pytest.mark.parametrize("data", NOT_JSON)
@pytest.mark.parametrize("channel", CHANNELS)
def test_an_invalid_message_is_corrupt(channel: str, data: bytes) -> None:
    with pytest.raises(CorruptRecord) as refused:
        read_event(channel, data)
    assert "\n" not in refused.value.reason
    assert len(refused.value.reason) < 200


@pytest.mark.parametrize("payload", [7, 2.5, True, [], {}, ["x"], {"id": None}, {"id": 7}, {"id": [ID]}, {"ID": ID}])
@pytest.mark.parametrize("channel", CHANNELS)
def test_a_payload_of_another_type_is_corrupt(channel: str, payload: object) -> None:
    with pytest.raises(CorruptRecord):
        read_event(channel, message(payload))


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_message_without_payload_is_corrupt(channel: str) -> None:
    with pytest.raises(CorruptRecord):
        read_event(channel, b'{"type": "monitor.updated"}')


def test_each_channel_has_its_own_form() -> None:
    for channel in (CREATED, UPDATED):
        with pytest.raises(CorruptRecord):
            read_event(channel, message(ID))
    with pytest.raises(CorruptRecord):
        read_event(DELETED, message({"id": ID}))
    with pytest.raises(CorruptRecord):
        read_event(DELETED, message(None))


@pytest.mark.parametrize("active", [None, 0, 1, "true", "", [], {}])
def test_an_active_of_another_type_is_corrupt(active: object) -> None:
    with pytest.raises(CorruptRecord):
        read_event(UPDATED, message({"id": ID, "active": active}))


@pytest.mark.parametrize("id_", NO_ID)
def test_an_invalid_id_is_corrupt(id_: str) -> None:
    assert not is_monitor_id(id_)
    with pytest.raises(CorruptRecord):
        read_event(UPDATED, message({"id": id_}))
    with pytest.raises(CorruptRecord):
        read_event(DELETED, message(id_))


@pytest.mark.parametrize("half", ["\\ud800", "\\udfff\\ud800"])
def test_half_a_character_is_corrupt(half: str) -> None:
    with pytest.raises(CorruptRecord):
        read_event(DELETED, f'{{"payload": "{half}"}}'.encode())


@pytest.mark.parametrize("depth", [100, 100_000])
def test_endless_nesting_affects_nothing_else(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    data = f'{{"payload": {{"id": "{ID}", "config": {nested}}}}}'.encode()
    try:
        assert read_event(UPDATED, data) == Event(ID, gone=False)
    except CorruptRecord:
        assert depth == 100_000


# --- when its monitor is read


def schedulable(id_: MonitorId, updated_at: datetime | None = AT) -> Schedulable:
    return Schedulable(id_, 60, AT, updated_at)


def due_ids(reads: ReadQueue, limit: int = 100) -> tuple[int, list[MonitorId]]:
    stage, found = reads.due(limit)
    return stage, [read.monitor_id for read in found]


def test_nothing_is_expected_at_first() -> None:
    reads = ReadQueue((1, 2))
    assert len(reads) == 0
    assert reads.due(10) == (0, [])
    assert reads.next_s is None


def test_a_monitor_is_read_at_once_and_again_after_each_delay() -> None:
    reads = ReadQueue((3600, 7200))
    before_s = time.monotonic()
    reads.add(ID)
    after_s = time.monotonic()
    for stage, delay_s in enumerate((0, 3600, 7200)):
        assert len(reads) == 1
        assert reads.next_s is not None
        # Counted from the event, however long the reading took.
        assert before_s + delay_s <= reads.next_s <= after_s + delay_s
        (read,) = reads._queues[stage].values()
        assert bool(due_ids(reads)[1]) is (stage == 0)
        reads.done(stage, [read], {})
    assert len(reads) == 0
    assert reads.next_s is None


def test_those_due_come_in_the_order_of_their_events_and_no_more_than_asked_for() -> None:
    reads = ReadQueue(())
    ids = [MonitorId(f"{n:08}-0000-4000-8000-000000000000") for n in range(10)]
    for id_ in ids:
        reads.add(id_)
    assert due_ids(reads, 4) == (0, ids[:4])
    reads.done(0, reads.due(4)[1], {})
    assert due_ids(reads) == (0, ids[4:])


def test_the_first_reads_come_before_the_later_ones() -> None:
    reads = ReadQueue((0,))
    reads.add(ID)
    reads.done(0, reads.due(1)[1], {})
    assert due_ids(reads) == (1, [ID])
    reads.add(OTHER)
    assert due_ids(reads) == (0, [OTHER])


def test_several_events_of_one_monitor_are_one_read_and_the_last_one_counts() -> None:
    reads = ReadQueue((0, 0))
    reads.add(ID)
    reads.add(OTHER)
    reads.add(ID)
    _, found = reads.due(10)
    assert [read.monitor_id for read in found] == [OTHER, ID]


def test_an_event_begins_the_reads_of_its_monitor_again() -> None:
    reads = ReadQueue((3600,))
    reads.add(ID)
    reads.done(0, reads.due(1)[1], {})
    assert due_ids(reads) == (0, [])
    reads.add(ID)
    assert len(reads) == 1
    assert due_ids(reads) == (0, [ID])


def test_an_event_during_the_reading_is_not_taken_for_read() -> None:
    reads = ReadQueue((3600,))
    reads.add(ID)
    stage, found = reads.due(1)
    reads.add(ID)
    reads.done(stage, found, {ID: schedulable(ID)})
    assert len(reads) == 1
    stage, found = reads.due(1)
    assert (stage, [read.monitor_id for read in found]) == (0, [ID])


def test_a_later_read_knows_what_the_first_one_saw() -> None:
    reads = ReadQueue((0, 0))
    reads.add(ID)
    reads.add(OTHER)
    stage, found = reads.due(2)
    assert [read.seen for read in found] == [None, None]
    reads.done(stage, found, {ID: schedulable(ID)})
    stage, found = reads.due(2)
    assert (stage, {read.monitor_id: read.seen for read in found}) == (
        1,
        {ID: AT, OTHER: None},
    )


def test_reads_that_failed_are_due_again() -> None:
    reads = ReadQueue((0,))
    reads.add(ID)
    assert due_ids(reads) == due_ids(reads) == (0, [ID])


def test_memory_ends_with_the_reads() -> None:
    reads = ReadQueue((0, 0))
    for n in range(1000):
        reads.add(MonitorId(f"{n:08}-0000-4000-8000-000000000000"))
    while len(reads):
        stage, found = reads.due(300)
        reads.done(stage, found, {})
    assert all(not queue for queue in reads._queues)
