"""Growing delays, and outages logged once."""

import asyncio
from collections import defaultdict

import pytest

from peekaping_producer.errors import System, Unavailable
from peekaping_producer.node.backoff import Backoff
from peekaping_producer.node.outage import Outage, OutageUser
from peekaping_producer.observe.tally import Tally
from support.log_capture import CapturedLog, Line

UNAVAILABLE = "database unavailable"


class Watched(CapturedLog):
    """An outage whose clock is stopped until it is moved, and the lines it wrote."""

    def __init__(self, system: System = "database") -> None:
        super().__init__()
        self.now_s = 1000.0
        self.tally = Tally()
        self.outage = Outage(system, self.log, self.tally, clock=lambda: self.now_s)
        self.users: defaultdict[str, OutageUser] = defaultdict(self.outage.user)
        self._system: System = system

    def fail(self, reason: str, needed_by: str = "") -> None:
        self.users[needed_by].failed(Unavailable(self._system, reason))

    def recover(self, needed_by: str = "") -> None:
        self.users[needed_by].recovered()

    def contents(self) -> list[Line]:
        """Return the lines without what all have."""
        return [{key: value for key, value in line.items() if key not in {"time", "svc"}} for line in self.lines]


def test_delays_double_up_to_the_cap_and_are_cut_by_at_most_half() -> None:
    backoff = Backoff(0.1, 5.0)
    for full_s in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0):
        assert full_s / 2 <= backoff.next_delay_s() <= full_s


def test_delays_of_two_nodes_differ() -> None:
    first, second = Backoff(1.0, 60.0), Backoff(1.0, 60.0)
    assert [first.next_delay_s() for _ in range(5)] != [second.next_delay_s() for _ in range(5)]


def test_a_reset_starts_over() -> None:
    backoff = Backoff(1.0, 60.0)
    for _ in range(20):
        backoff.next_delay_s()
    backoff.reset()
    assert backoff.next_delay_s() <= 1.0


def test_the_delay_stays_at_the_cap_for_as_long_as_it_takes() -> None:
    backoff = Backoff(0.1, 5.0)
    assert max(backoff.next_delay_s() for _ in range(5000)) <= 5.0
    assert backoff.next_delay_s() >= 2.5


def test_an_outage_is_logged_when_it_starts_and_when_it_ends() -> None:
    watched = Watched()
    watched.fail("refused")
    watched.now_s += 12.34
    watched.fail("refused")
    watched.recover()
    assert watched.contents() == [
        {"level": "warning", "event": "database unavailable", "reason": "refused"},
        {"level": "warning", "event": "database recovered", "outage_s": 12.3, "checks_from_cache": 0},
    ]


def test_a_new_reason_is_logged_and_does_not_start_the_outage_again() -> None:
    watched = Watched("redis")
    watched.fail("refused")
    watched.now_s += 5
    watched.fail("loading")
    watched.now_s += 5
    for reason in ("loading", "refused", "loading"):
        watched.fail(reason)
    watched.recover()
    assert [(line["event"], line.get("reason"), line.get("outage_s")) for line in watched.contents()] == [
        ("redis unavailable", "refused", None),
        ("redis still unavailable", "loading", None),
        ("redis recovered", None, 10.0),
    ]


def test_an_outage_that_goes_on_is_logged_again_with_its_duration() -> None:
    watched = Watched("redis")
    watched.outage.remind(300)
    watched.fail("refused")
    watched.now_s += 299
    watched.outage.remind(300)
    assert len(watched.contents()) == 1
    for _ in range(2):
        watched.now_s += 300
        watched.outage.remind(300)
    again = {"level": "warning", "event": "redis still unavailable", "reason": "refused"}
    assert watched.contents()[1:] == [again | {"outage_s": 599.0}, again | {"outage_s": 899.0}]


def test_an_attempt_from_before_the_end_of_an_outage_begins_no_other() -> None:
    watched = Watched("redis")
    watched.fail("refused")
    watched.now_s += 5
    watched.recover()
    watched.users[""].failed(Unavailable("redis", "no answer within 2 s", began_s=watched.now_s - 1))
    assert not watched.outage.ongoing
    watched.users[""].failed(Unavailable("redis", "no answer within 2 s", began_s=watched.now_s + 1))
    assert watched.outage.ongoing


def test_one_refused_command_is_not_an_outage_and_is_logged_now_and_then() -> None:
    watched = Watched("redis")
    for _ in range(3):
        watched.outage.refused(Unavailable("redis", "no right"), 300)
    assert not watched.outage.ongoing
    watched.now_s += 300
    watched.outage.refused(Unavailable("redis", "no right"), 300)
    assert watched.contents() == [{"level": "warning", "event": "redis command refused", "reason": "no right"}] * 2


def test_an_outage_lasts_until_all_who_noticed_it_have_recovered() -> None:
    watched = Watched()
    watched.fail("locked", "checks")
    for _ in range(3):
        watched.recover("sweep")
    watched.fail("locked", "changes")
    watched.recover("checks")
    watched.fail("locked", "changes")
    watched.recover("checks")
    assert watched.outage.ongoing
    watched.recover("changes")
    assert [line["event"] for line in watched.contents()] == [UNAVAILABLE, "database recovered"]


def test_a_user_with_nothing_to_ask_recovers_as_the_last_one() -> None:
    watched = Watched()
    watched.fail("refused", "checks")
    watched.fail("refused", "invalid")
    watched.recover("checks")
    watched.users["invalid"].recovered(asked=False)
    assert [line["event"] for line in watched.contents()] == [UNAVAILABLE, "database recovered"]


def test_one_who_asks_no_more_ends_an_outage_and_says_nothing_else_of_the_system() -> None:
    watched = Watched()
    watched.fail("locked", "sweep")
    watched.users["sweep"].no_longer_needed()
    watched.users["sweep"].no_longer_needed()
    assert not watched.outage.ongoing
    assert [line["event"] for line in watched.contents()] == [UNAVAILABLE, "database no longer in use"]


async def test_a_recovery_ends_the_waits_of_others() -> None:
    watched = Watched()
    watched.fail("refused", "checks")
    watched.fail("refused", "sweep")
    async with asyncio.timeout(20), asyncio.TaskGroup() as waits:
        for _ in range(2):
            waits.create_task(watched.outage.recovery_within(1_000))
        await asyncio.sleep(0)
        watched.recover("checks")


def test_checks_from_the_cache_are_logged_at_the_end_of_their_outage() -> None:
    watched = Watched()
    for counts in ((200, 7), ()):
        watched.fail("refused")
        for count in counts:
            watched.tally.add_from_cache(count, 1.0)
        watched.recover()
        watched.tally.add_from_cache(1, 1.0)
        assert watched.outage.from_cache == (0, 0)
    ends = [line for line in watched.contents() if line["event"] == "database recovered"]
    assert [line["checks_from_cache"] for line in ends] == [207, 0]


def test_reasons_that_are_new_each_time_are_not_logged_without_end() -> None:
    watched = Watched()
    for number in range(1000):
        watched.fail(f"refused, try {number}")
    lines = watched.contents()
    assert [line["level"] for line in lines].count("warning") == 1
    assert len(lines) <= 30


def test_the_same_reason_is_logged_again_in_the_next_outage() -> None:
    watched = Watched()
    for _ in range(2):
        watched.fail("refused")
        watched.recover()
    assert [line["event"] for line in watched.contents()].count("database unavailable") == 2


def test_a_failure_without_a_reason_is_logged_too() -> None:
    watched = Watched()
    watched.fail("")
    assert [line["reason"] for line in watched.contents()] == [""]


def test_success_without_an_outage_says_nothing() -> None:
    watched = Watched()
    watched.recover()
    assert watched.contents() == []


@pytest.mark.parametrize("start_s", [0.0, 1000.0])
def test_it_is_ongoing_from_the_first_failure_to_the_first_success(start_s: float) -> None:
    watched = Watched()
    watched.now_s = start_s
    ongoing = [watched.outage.ongoing]
    watched.fail("refused")
    ongoing.append(watched.outage.ongoing)
    watched.recover()
    ongoing.append(watched.outage.ongoing)
    assert ongoing == [False, True, False]


def test_how_long_the_system_was_unavailable_in_a_span_of_time() -> None:
    watched = Watched()
    began_s = watched.now_s
    watched.fail("refused")
    watched.now_s += 10
    watched.recover()
    watched.now_s += 5
    watched.users[""].failed(Unavailable("database", "slow", began_s=watched.now_s - 2))
    watched.now_s += 1
    assert watched.outage.seconds_since(began_s) == 13
    assert watched.outage.seconds_since(began_s + 8) == 5
    assert watched.outage.seconds_since(watched.now_s - 1) == 1
    watched.recover()
    watched.now_s += 100
    assert watched.outage.seconds_since(began_s) == 13
