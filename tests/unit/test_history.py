"""The last minutes of a node are sampled from its counts."""

from peekaping_producer.observe.history import LATE_WITHIN_S, MISSED_WITHIN_S, RATE_OVER_S, History
from peekaping_producer.observe.measures import Measures
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.observe.tally import Tally


class Life:
    """A node's counts and its history, on a clock of the test's."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.tally, self.measures = Tally(), Measures()
        self.history = History(self.tally, self.measures, lambda: self.now_s)

    def live(self, seconds: float, checks_per_s: int, late_ms: float = 5.0) -> None:
        """Make this many checks a second, with a heartbeat every 3 s."""
        for second in range(int(seconds)):
            self.now_s += 1
            self.tally.count([Outcome.ENQUEUED] * checks_per_s)
            self.tally.late([late_ms] * checks_per_s)
            if second % 3 == 0:
                self.history.recent()


def test_nothing_has_happened() -> None:
    recent = Life().history.recent()
    assert (recent.checks_per_s, recent.lateness_p50_ms, recent.lateness_p99_ms) == (0, None, None)
    assert (recent.late, recent.missed, recent.terms, recent.healed) == (0, {}, 0, [])


def test_the_rate_and_the_lateness_are_those_of_the_last_seconds() -> None:
    life = Life()
    life.live(60, 7, late_ms=900)
    assert life.history.recent().checks_per_s == 7
    life.live(RATE_OVER_S + 6, 20, late_ms=5)
    recent = life.history.recent()
    assert (recent.checks_per_s, recent.lateness_p50_ms, recent.lateness_p99_ms) == (20, 5, 5)
    life.live(RATE_OVER_S + 6, 0)
    recent = life.history.recent()
    assert (recent.checks_per_s, recent.lateness_p50_ms) == (0, None)


def test_what_went_wrong_is_remembered_for_its_time() -> None:
    life = Life()
    life.live(3600, 1)
    life.tally.late([10_001, 9_999, 60_000_000])
    life.tally.add(Outcome.MISSED_REDIS, 4)
    life.tally.add(Outcome.MISSED_NO_NODE)
    life.measures.terms += 2
    assert (life.history.recent().late, life.history.recent().terms) == (2, 2)
    assert life.history.recent().missed == {"redis": 4, "no_node": 1}
    life.live(LATE_WITHIN_S - 5, 1)
    assert life.history.recent().late == 2
    life.live(15, 1)
    assert life.history.recent().late == 0
    life.live(MISSED_WITHIN_S - LATE_WITHIN_S - 20, 1)
    assert life.history.recent().missed == {"redis": 4, "no_node": 1}
    life.live(20, 1)
    recent = life.history.recent()
    assert (recent.missed, recent.terms) == ({}, 2)


def test_its_memory_does_not_grow() -> None:
    life = Life()
    life.live(3 * 3600, 1)
    assert len(life.history._samples) < 1000 / 3 + 10
    assert len(life.history._lateness) < 10
    life.history.note_healed([(str(number), Outcome.HEALED_ORPHANED) for number in range(100)])
    assert len(life.history.recent().healed) == 5


def test_the_newest_healed_monitors_come_first_and_no_others() -> None:
    life = Life()
    life.history.note_healed([("a", Outcome.HEALED_ARCHIVED), ("b", Outcome.ENQUEUED), ("c", Outcome.HEALED_RETRY)])
    life.history.note_healed([("d", Outcome.HEALED_ORPHANED)])
    healed = life.history.recent().healed
    assert [(one.monitor_id, one.outcome) for one in healed] == [
        ("d", "healed_orphaned"),
        ("c", "healed_retry"),
        ("a", "healed_archived"),
    ]
