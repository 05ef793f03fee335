"""Waiting for a condition, never for a fixed time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

WITHIN_S = 30.0
"""Far longer than anything takes: a busy machine is no failure."""
_FIRST_S, _CAP_S = 0.01, 0.05
"""The longest pause saves the processor for what is waited for; the first ones are for what is about to happen."""


async def until(
    condition: Callable[[], object | Awaitable[object]],
    what: str | Callable[[], str] = "the condition",
    within_s: float = WITHIN_S,
) -> None:
    """Wait until `condition`, which may be asynchronous, holds; raises AssertionError that says what did not happen."""
    give_up = time.monotonic() + within_s
    pause_s = _FIRST_S
    while True:
        holds = condition()
        if inspect.isawaitable(holds):
            holds = await holds
        if holds:
            return
        assert time.monotonic() < give_up, f"not within {within_s:g} s: {what if isinstance(what, str) else what()}"
        await asyncio.sleep(pause_s)
        pause_s = min(_CAP_S, pause_s * 1.1)
