"""As many batches are in flight as bring a gain: the rule, by clocks of the test's own."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from peekaping_producer.dispatch.in_flight import InFlight


class Clocks:
    """The time that passes, and how much of it this thread is busy."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.cpu_s = 0.0

    def pass_(self, seconds: float, busy: float) -> None:
        self.now_s += seconds
        self.cpu_s += seconds * busy


def after(batches: int, busy: float, *, most: int, full: bool = True, clocks: Clocks | None = None) -> InFlight:
    """Return the rule after this many batches, each of which took a hundredth of a second."""
    clocks = clocks or Clocks()
    rule = InFlight(most, lambda: clocks.now_s, lambda: clocks.cpu_s)
    _handle(rule, clocks, batches, busy, full=full)
    return rule


def _handle(rule: InFlight, clocks: Clocks, batches: int, busy: float, *, full: bool = True) -> None:
    for _ in range(batches):
        rule.batch_read(full=full)
        clocks.pass_(0.01, busy)


async def room_of(rule: InFlight) -> int:
    """Return for how many there is room."""
    async with AsyncExitStack() as stack:
        count = 0
        while True:
            try:
                async with asyncio.timeout(0.05):
                    await stack.enter_async_context(rule.room())
            except TimeoutError:
                return count
            count += 1


@pytest.mark.parametrize("most", [1, 3, 4, 10, 128])
async def test_there_is_room_for_four_at_first_and_for_no_more_than_allowed(most: int) -> None:
    assert await room_of(InFlight(most)) == min(4, most)


@pytest.mark.parametrize("most", [1, 3, 4, 10, 32])
async def test_a_process_that_waits_for_its_database_reads_as_much_at_once_as_allowed(most: int) -> None:
    rule = after(100, 0.2, most=most)
    assert rule.limit == await room_of(rule) == most


async def test_a_busy_process_reads_no_more_at_once() -> None:
    rule = after(1_000, 0.9, most=32)
    assert rule.limit == await room_of(rule) == 4


async def test_batches_that_are_not_full_say_nothing() -> None:
    assert after(1_000, 0.1, most=32, full=False).limit == 4


async def test_room_that_brings_no_gain_any_more_is_given_back() -> None:
    clocks = Clocks()
    rule = after(100, 0.2, most=32, clocks=clocks)
    _handle(rule, clocks, 2_000, 1.0)
    assert rule.limit == 4
    # What was free already is taken once more, and then not given back.
    await room_of(rule)
    assert await room_of(rule) == 4
