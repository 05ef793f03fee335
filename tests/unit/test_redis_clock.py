"""Redis' clock beside a node's own: a step is seen, and neither a slow reply nor a process that stood still is one."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from peekaping_producer.schedule.redis_clock import STEP_MS, RedisClock, Step

DELAYS_S = st.sampled_from([0.0, 0.001]) | st.floats(0, 0.05) | st.floats(0, 30)
WAITS_S = st.floats(0, 5)
BEGAN_MS = 1_800_000_000_000


class Call(Struct):
    """One claim: how long after the last it is sent, and how long request and reply take."""

    wait_s: float
    request_s: float
    reply_s: float


CALLS = st.builds(Call, WAITS_S, DELAYS_S, DELAYS_S)


class Timeline:
    """The true time. Redis' clock is ahead of it by as much as it was stepped."""

    def __init__(self) -> None:
        self.clock = RedisClock()
        self.ahead_ms = 0
        self._now_s = 50.0
        self.horizon_ms: int | None = None
        self.shown_ms = 0

    def claim(self, call: Call) -> Step | None:
        self._now_s += call.wait_s
        sent_s = self._now_s
        self.horizon_ms = self.clock.horizon_ms(sent_s)
        self._now_s += call.request_s
        self.shown_ms = BEGAN_MS + int(self._now_s * 1000) + self.ahead_ms
        self._now_s += call.reply_s
        return self.clock.see(self.shown_ms, sent_s, self._now_s)


@given(st.lists(CALLS, min_size=1, max_size=20))
def test_without_a_step_none_is_seen_whatever_the_delays(calls: list[Call]) -> None:
    time = Timeline()
    for call in calls:
        assert time.claim(call) is None
        # All that is due when it is sent may be claimed.
        assert time.horizon_ms is None or time.horizon_ms >= time.shown_ms - call.request_s * 1000


@given(CALLS, CALLS, CALLS, st.integers(-10_000_000, 10_000_000))
def test_a_step_is_seen_once_and_as_far_as_the_delays_allow(before: Call, after: Call, next_: Call, by_ms: int) -> None:
    time = Timeline()
    assert time.claim(before) is None
    seen_ms = time.shown_ms
    time.ahead_ms = by_ms
    step = time.claim(after)
    unsure_ms = round((before.request_s + before.reply_s + after.request_s + after.reply_s) * 1000) + 2
    if abs(by_ms) > STEP_MS + unsure_ms:
        assert step is not None
    if abs(by_ms) < STEP_MS - 2:
        assert step is None
    if step is not None:
        assert abs(step.by_ms - by_ms) <= unsure_ms
        assert (step.by_ms > 0) == (by_ms > 0)
        assert step.at_ms == seen_ms + step.by_ms
    assert time.claim(next_) is None


@given(CALLS, st.builds(Call, WAITS_S, st.floats(0, 0.02), DELAYS_S), st.integers(1_000, 10_000_000))
def test_after_a_step_forward_hardly_more_may_be_claimed_than_without(before: Call, after: Call, by_ms: int) -> None:
    time = Timeline()
    time.claim(before)
    time.ahead_ms = by_ms
    time.claim(after)
    assert time.horizon_ms is not None
    assert time.horizon_ms <= time.shown_ms - by_ms + before.request_s * 1000 + 60
