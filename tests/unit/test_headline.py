"""The sentence at the top of the page is never green while an alert of deploy/prometheus/rules.yml fires."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from peekaping_producer.asynq.queue import QueueState, Waiting
from peekaping_producer.observe.history import LATE_WITHIN_S, MISSED_WITHIN_S, TERMS_WITHIN_S, Recent
from peekaping_producer.redisdb.memory import Memory
from peekaping_producer.report.status_values import (
    InactiveNode,
    Invalid,
    InvalidMonitor,
    NodeStatus,
    Overdue,
    PauseStatus,
    Status,
)
from peekaping_producer.web.headline import CLAIMS_WITHIN_S, MOST_TERMS, Level, Situation, System, headline
from peekaping_producer.web.snapshot import Snapshot

RULES = (Path(__file__).parents[2] / "deploy" / "prometheus" / "rules.yml").read_text(encoding="utf-8")
ALERTS = re.findall(r"alert: (\w+)", RULES)

NODE = NodeStatus(
    id="host-1-n1",
    version="0.1.0",
    started="2026-11-24T20:00:00Z",
    last_seen="2026-11-24T21:29:59Z",
    seen_ago_s=1.0,
    gone=False,
    leads=True,
    concurrency=10,
    checks=1,
    lateness_p50_ms=3,
    lateness_p99_ms=70,
    database_problem=None,
    checks_from_cache=0,
    cache_age_s=0.0,
    last_sweep=None,
    claimed_ago_s=0.5,
    database_down_s=0.0,
    recent=Recent(checks_per_s=5.0),
)
OTHER = replace(NODE, id="host-2-n2", leads=False)
PAUSE = PauseStatus("2026-11-24T21:20:00Z", "2026-11-24T21:40:00Z", 600.0, "database upgrade", "ops@host")
QUEUE = QueueState(False, 2, 0, 0, 0, 0, 0, 0, None)
STATUS = Status(
    at="2026-11-24T21:30:00Z",
    running=True,
    trouble=[],
    overdue=Overdue(0, 0, []),
    nodes=[NODE, OTHER],
    inactive_nodes=[],
    leader=NODE.id,
    leader_is_go=False,
    spacing="spread",
    scheduled=12_431,
    claimed=2,
    invalid=Invalid(0, []),
    queue=QUEUE,
    memory=Memory(2_000_000, 0, "noeviction"),
    next_runs=[],
    names_problem=None,
    pause=None,
)


def having(**changed: Any) -> Situation:
    """Return a situation in which only this is different from when all is well."""
    return Situation(status=replace(STATUS, **changed))


def recently(**changed: Any) -> Situation:
    """Return one in which one of the nodes has had something in its last minutes."""
    return having(nodes=[NODE, replace(OTHER, recent=replace(OTHER.recent, **changed))])


def stopped(ago_s: float, **changed: Any) -> Situation:
    """Return one in which a node that has stopped had something in its last minutes."""
    return having(inactive_nodes=[InactiveNode("host-3-n3", ago_s, None, 0.0, Recent(**changed))])


FIRING = {
    "PeekapingProducerNobodyClaims": [
        having(nodes=[replace(NODE, claimed_ago_s=20.0, seen_ago_s=2.0), replace(OTHER, gone=True)]),
        having(nodes=[], leader=None, running=False),
        having(nodes=[replace(NODE, gone=True)], leader=None, running=False),
        having(nodes=[replace(NODE, claimed_ago_s=None)]),
        having(nodes=[replace(NODE, claimed_ago_s=20.0)], leader="abc-1", leader_is_go=True),
    ],
    "PeekapingProducerLate": [recently(late=1), stopped(350, late=1), having(overdue=Overdue(3, 12_500, []))],
    "PeekapingProducerMissedChecks": [
        *(recently(missed={reason: 1}) for reason in ("no_node", "redis", "database", "overload", "still_running")),
        stopped(650, missed={"redis": 1}),
    ],
    "PeekapingProducerDatabaseUnavailable": [
        having(nodes=[NODE, replace(OTHER, database_problem="no answer within 2.5 s", database_down_s=1.0)]),
        Situation(database=System(problem="no answer within 2.5 s", down_s=1.0), status=STATUS),
        Situation(database=System(answered=False), status=STATUS),
        having(inactive_nodes=[InactiveNode("host-3-n3", 1.0, "connection refused", 30.0, Recent())]),
    ],
    "PeekapingProducerRedisUnavailable": [
        Situation(redis=System(problem="no answer within 2 s", down_s=2.0), status=STATUS),
        Situation(redis=System(answered=False)),
    ],
    "PeekapingProducerNoWorker": [having(queue=replace(QUEUE, workers=0))],
    "PeekapingProducerInvalidMonitors": [having(invalid=Invalid(1, [InvalidMonitor("1", None, "interval is 0 s")]))],
    "PeekapingProducerLeaderFlaps": [recently(terms=4), stopped(950, terms=4)],
    "PeekapingProducerPaused": [having(pause=PAUSE)],
}


def test_all_is_well() -> None:
    found = headline(having())
    assert (found.level, found.text, found.problems) == (Level.OK, "All 12,431 checks run on time", [])
    assert headline(having(scheduled=1)).text == "The only check runs on time"
    assert headline(having(scheduled=0)).text == "There are no active monitors"


@pytest.mark.parametrize("alert", ALERTS)
def test_no_alert_fires_while_the_page_is_green(alert: str) -> None:
    for situation in FIRING[alert]:
        found = headline(situation)
        assert found.level is not Level.OK
        assert alert in {problem.alert for problem in found.problems}
        assert all(problem.text and problem.action for problem in found.problems)
        assert found.problems[0].text == found.text


def test_the_page_names_no_alert_that_does_not_exist() -> None:
    assert FIRING.keys() == set(ALERTS)


def test_the_page_is_stricter_than_the_alerts() -> None:
    """By a minute, since Prometheus learns of everything by a scrape and an evaluation."""

    def rule(alert: str) -> str:
        return RULES.partition(f"alert: {alert}\n")[2].partition("- alert")[0]

    assert "> 30\n" in rule("PeekapingProducerNobodyClaims")
    assert CLAIMS_WITHIN_S < 30
    assert "[5m]))) > 10\n" in rule("PeekapingProducerLate")
    assert LATE_WITHIN_S == (5 + 1) * 60
    assert '{reason!="paused"}[10m]) > 0\n' in rule("PeekapingProducerMissedChecks")
    assert MISSED_WITHIN_S == (10 + 1) * 60
    assert "[15m])) > 4\n" in rule("PeekapingProducerLeaderFlaps")
    assert TERMS_WITHIN_S == (15 + 1) * 60
    assert MOST_TERMS < 4


@pytest.mark.parametrize(
    ("situation", "level", "words"),
    [
        (having(queue=replace(QUEUE, paused=True)), Level.BAD, "queue is paused"),
        (having(queue=replace(QUEUE, oldest=Waiting("1", 90.0, 60))), Level.BAD, "wait in the queue for longer"),
        (recently(missed={"paused": 100}), Level.OK, "run on time"),
        (having(pause=PAUSE), Level.ATTENTION, "all checks are paused until 21:40:00"),
        (having(leader=None), Level.ATTENTION, "no node leads"),
        (having(nodes=[NODE, replace(OTHER, gone=True)]), Level.ATTENTION, "a node is gone; checks go on"),
        (having(nodes=[replace(NODE, claimed_ago_s=None, started=STATUS.at)]), Level.OK, "run on time"),
        (having(nodes=[replace(NODE, claimed_ago_s=None, started="")]), Level.OK, "run on time"),
        (stopped(365, late=1), Level.OK, "run on time"),
        (stopped(665, missed={"redis": 1}), Level.OK, "run on time"),
        (having(nodes=[], leader="abc:1", leader_is_go=True), Level.OK, "run on time"),
        (Situation(), Level.ATTENTION, "is starting"),
        (having(memory=None), Level.OK, "run on time"),
        (having(memory=Memory(2_000_000, 0, None)), Level.OK, "run on time"),
        (having(memory=Memory(2_000_000, 0, "allkeys-lru")), Level.ATTENTION, "a full redis may delete the schedule"),
        (having(memory=Memory(2_000_000, 5_000_000, "noeviction")), Level.ATTENTION, "redis has 3 mb left"),
        (having(overdue=Overdue(1, 12_500, [])), Level.BAD, "1 check is late, the longest by 12 s"),
    ],
)
def test_what_else_it_says(situation: Situation, level: Level, words: str) -> None:
    found = headline(situation)
    assert found.level is level
    assert words in found.text.lower()


def test_the_worst_comes_first_and_each_cause_once() -> None:
    down = replace(OTHER, database_problem="no answer within 2.5 s", database_down_s=7.0)
    status = replace(STATUS, nodes=[NODE, down], queue=replace(QUEUE, workers=0), invalid=Invalid(2, []))
    own = System(problem="no answer within 2.5 s", down_s=7.0)
    found = headline(Situation(database=own, status=status))
    assert [problem.code for problem in found.problems] == ["queue", "database", "invalid"]
    assert [problem.level for problem in found.problems] == [Level.BAD, Level.ATTENTION, Level.ATTENTION]


def test_while_redis_is_unavailable_nothing_is_said_of_what_was_read_before() -> None:
    situation = Situation(redis=System(problem="no answer within 2 s"), status=replace(STATUS, nodes=[], running=False))
    assert [problem.code for problem in headline(situation).problems] == ["redis"]


def test_a_problem_is_shown_with_the_time_since_when_it_lasts() -> None:
    def snapshot(down_s: float, since: dict[str, datetime]) -> Snapshot:
        return Snapshot(None, Situation(redis=System(problem="no answer within 2 s", down_s=down_s)), since)

    first = snapshot(65.0, {})
    assert first.since == {"redis": first.now - timedelta(seconds=65)}
    # Rounding does not make it jump; another outage does.
    assert snapshot(66.0, first.since).since == first.since
    again = snapshot(2.0, first.since)
    assert again.since == {"redis": again.now - timedelta(seconds=2)}


def test_a_problem_whose_length_is_not_known_lasts_since_it_was_seen() -> None:
    seen = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    situation = having(queue=replace(QUEUE, workers=0))
    first = Snapshot(None, situation, {})
    assert first.since == {"queue": first.now}
    assert Snapshot(None, situation, {"queue": seen}).since == {"queue": seen}
