"""The last hour of the fleet: its points and its marks."""

import msgspec
import pytest
from msgspec.structs import replace

from peekaping_producer.observe.history import Recent
from peekaping_producer.report.status_values import Status
from peekaping_producer.web import last_hour
from peekaping_producer.web.last_hour import LastHour
from unit.test_headline import NODE, OTHER, STATUS

NOW_S = 1_790_000_000.0


@pytest.fixture(autouse=True)
def every_status_is_a_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_hour, "POINT_EVERY_S", 0)


def with_recent(*recents: Recent) -> Status:
    return replace(STATUS, nodes=[replace(NODE, id=str(at), recent=one) for at, one in enumerate(recents)])


def test_a_point_is_of_the_whole_fleet() -> None:
    hour = LastHour()
    status = with_recent(Recent(5.0, 3, 40), Recent(2.5, 9, 20), Recent())
    gone = replace(OTHER, gone=True, recent=Recent(100.0, 999, 999))
    hour.note(replace(status, nodes=[*status.nodes, gone]), NOW_S, redis_down=False)
    hour.note(None, NOW_S + 5, redis_down=True)
    plotted = msgspec.json.decode(hour.json())
    assert plotted["checks_per_s"] == [7.5, None]
    assert (plotted["p50_ms"], plotted["p99_ms"]) == ([9, None], [40, None])
    assert hour.worst_ms == 40


def test_outages_and_changes_of_the_leader_are_marks() -> None:
    hour = LastHour()
    down = replace(STATUS, nodes=[NODE, replace(OTHER, database_problem="no answer")])
    for at, (status, redis_down) in enumerate(
        [
            (None, True),  # starting
            (STATUS, False),
            (None, True),
            (None, True),
            (STATUS, False),
            (down, False),
            (replace(STATUS, leader=None), False),
            (replace(STATUS, leader=OTHER.id), False),
            (replace(STATUS, leader=OTHER.id), False),
        ]
    ):
        hour.note(status, NOW_S + at, redis_down=redis_down)
    assert [(mark.at_s - NOW_S, mark.kind, mark.text) for mark in hour.marks] == [
        (2, "outage", "Redis unavailable"),
        (4, "recovery", "Redis available"),
        (5, "outage", "Database unavailable"),
        (6, "recovery", "Database available"),
        (7, "leader", f"{OTHER.id} leads"),
    ]
    hour.note(STATUS, NOW_S + 3605.5, redis_down=False)
    assert [mark.at_s - NOW_S for mark in hour.marks] == [6, 7, 3605.5]


def test_its_memory_does_not_grow() -> None:
    hour = LastHour()
    for at in range(5000):
        hour.note(replace(STATUS, leader=str(at)), NOW_S + at / 100, redis_down=False)
    assert len(hour.points) == 720
    assert len(hour.marks) == 60
