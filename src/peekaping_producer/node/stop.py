"""When loops stop, and what ends their waits early."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Stop:
    """Set once, when it is time to stop; ends every wait."""

    def __init__(self) -> None:
        """Begin unset."""
        self._event = asyncio.Event()
        self._bells: list[Bell] = []
        self._limits: set[asyncio.Timeout] = set()

    def __bool__(self) -> bool:
        """Return whether it is time to stop."""
        return self._event.is_set()

    def set(self) -> None:
        """Ask every loop to stop."""
        if self:
            return
        self._event.set()
        for bell in self._bells:
            bell.ring()
        for limit in self._limits:
            limit.reschedule(0)

    @asynccontextmanager
    async def cutting_short(self) -> AsyncIterator[None]:
        """Leave the block, wherever it waits, as soon as it is time to stop."""
        try:
            async with asyncio.timeout(0 if self else None) as limit:
                self._limits.add(limit)
                try:
                    yield
                finally:
                    self._limits.discard(limit)
        except TimeoutError:
            if not limit.expired():
                raise

    def bell(self) -> "Bell":
        """Return a new bell, which also rings when it is time to stop."""
        bell = Bell()
        self._bells.append(bell)
        return bell

    async def within(self, seconds: float) -> bool:
        """Wait at most `seconds`; return whether it is time to stop."""
        if seconds > 0:
            return await _set_within(self._event, seconds)
        await asyncio.sleep(0)  # a loop that does not wait must let the others run
        return bool(self)


class Bell:
    """Ends another loop's wait early. If nobody waits, the ring counts for the next wait."""

    def __init__(self) -> None:
        """Begin silent."""
        self._event = asyncio.Event()

    def ring(self) -> None:
        """End the current wait, or the next."""
        self._event.set()

    async def within(self, seconds: float) -> bool:
        """Wait at most `seconds`; return whether it rang."""
        rang = await _set_within(self._event, seconds)
        self._event.clear()
        return rang


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True
