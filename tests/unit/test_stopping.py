"""Stop: one event, set once, that ends every wait."""

import asyncio
import time

import pytest

from peekaping_producer.node.stop import Stop

LONG_S = 60.0


async def test_it_is_unset_at_first_and_stays_set() -> None:
    stop = Stop()
    assert not stop
    stop.set()
    stop.set()
    assert stop


async def test_a_wait_that_is_not_ended_lasts_its_time() -> None:
    began = time.monotonic()
    assert not await Stop().within(0.05)
    assert time.monotonic() - began >= 0.05


@pytest.mark.parametrize("seconds", [0.0, -1.0, LONG_S])
async def test_no_wait_begins_after_the_stop(seconds: float) -> None:
    stop = Stop()
    stop.set()
    async with asyncio.timeout(LONG_S / 10):
        assert await stop.within(seconds)


async def test_it_ends_every_wait_at_once() -> None:
    stop = Stop()
    async with asyncio.timeout(LONG_S / 10), asyncio.TaskGroup() as waits:
        waiting = [waits.create_task(stop.within(LONG_S)) for _ in range(3)]
        await asyncio.sleep(0)
        stop.set()
    assert [wait.result() for wait in waiting] == [True] * 3


@pytest.mark.parametrize("seconds", [0.0, -5.0])
async def test_a_wait_of_nothing_lets_others_run(seconds: float) -> None:
    ran: list[str] = []

    async def other() -> None:
        ran.append("other")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(other())
        assert not await Stop().within(seconds)
        assert ran == ["other"]


async def test_cancellation_is_not_mistaken_for_the_end_of_a_wait() -> None:
    wait = asyncio.create_task(Stop().within(LONG_S))
    await asyncio.sleep(0)
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
