"""What a soak calls growth, and what an overload must show."""

import random
from collections import Counter

import pytest
from chaos.evidence import Check, Evidence, Life, Segment
from chaos.judge import phase_ms
from chaos.overload import PERIOD_S, PERIODS, Sample, _judged
from chaos.soak import Series

_chance = random.Random(5)
HOURS = [minute / 60 for minute in range(0, 90, 2)]
METRICS = Counter(
    {
        'peekaping_producer_checks_total{outcome="refreshed"}': 40,
        'peekaping_producer_missed_total{reason="overload"}': 30,
    }
)
BEGAN = 1_800_000_000_000
BACK = BEGAN + PERIODS * PERIOD_S * 1000
ENDED = BACK + 14_000
IDS = [f"0a6d4b64-0000-4000-8000-00000000000{number}" for number in range(3)]
CALM = [Sample(3, 0, 3, 5_000_000, 9.0)] * 30


def series(values: list[float]) -> Series:
    return Series("memory", "MB", tuple(zip([3600 * at for at in HOURS], values, strict=True)))


def noise(spread: float) -> float:
    return _chance.uniform(-spread, spread)


@pytest.mark.parametrize("spread", [0, 1, 30])
def test_noise_is_no_growth(spread: float) -> None:
    assert not series([100 + noise(spread) for _ in HOURS]).grows
    assert not series([100 - 20 * at + noise(spread) for at in HOURS]).grows


@pytest.mark.parametrize("spread", [0, 1, 5])
def test_a_leak_is_growth_however_noisy(spread: float) -> None:
    assert series([100 + 20 * at + noise(spread) for at in HOURS]).grows


def test_a_few_megabytes_are_no_growth() -> None:
    assert not series([100 + 2 * at for at in HOURS]).grows


def fair_checks() -> list[Check]:
    """Return what a slow worker takes in turn, and then a fast one: at once, and in every slot."""
    slow = [(IDS[number % 3], BEGAN + 500 + number * 700) for number in range(PERIODS * PERIOD_S * 1000 // 700 - 1)]
    fast = []
    for id_ in IDS:
        first_ms = BACK + (phase_ms(id_, PERIOD_S * 1000) - BACK) % (PERIOD_S * 1000)
        fast += [(id_, at_ms) for at_ms in range(first_ms, ENDED, PERIOD_S * 1000)]
    return [Check(id_, "as created", at_ms, at_ms) for id_, at_ms in [*slow, *fast]]


def judged(
    checks: list[Check], samples: list[Sample] = CALM, metrics: Counter[str] = METRICS, troubles: int = 1
) -> str:
    """Return what is wrong with an overload, in one text."""
    lives = tuple(Life(id_, False, (Segment(BEGAN, BEGAN, PERIOD_S * 1000),), ()) for id_ in IDS)
    return "; ".join(
        _judged(samples, metrics, Evidence(BEGAN, ENDED, tuple(checks), lives, ()), BACK, troubles).failures
    )


def test_an_overload_that_all_share_breaks_no_limit() -> None:
    assert judged(fair_checks()) == ""


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (Sample(3, 1, 3, 5_000_000, 9.0), "in the queue twice"),
        (Sample(3, 0, 4, 5_000_000, 9.0), "more tasks than monitors"),
        (Sample(3, 0, 3, 9_000_000, 9.0), "memory grew"),
    ],
)
def test_what_the_queue_may_not_do(sample: Sample, words: str) -> None:
    assert words in judged(fair_checks(), [*CALM, sample])


def test_the_oldest_goes_first() -> None:
    unfair = [check for check in fair_checks() if check.monitor_id != IDS[0] or check.started_ms >= BACK]
    assert "not checked at all" in judged(unfair)
    rare = [check for number, check in enumerate(fair_checks()) if check.monitor_id != IDS[0] or number % 2]
    assert "the oldest did not go first" in judged(rare)


def test_each_monitor_is_checked_when_the_workers_are_back() -> None:
    late = [check for check in fair_checks() if check.monitor_id != IDS[0] or not 0 <= check.started_ms - BACK < 4_000]
    assert "1 monitors were not checked when the workers were back" in judged(late)


def test_an_overload_must_be_visible() -> None:
    assert "no metric shows what was missed" in judged(fair_checks(), metrics=Counter())
    assert "the log does not say" in judged(fair_checks(), troubles=0)
