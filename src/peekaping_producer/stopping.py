"""How loops wait and how they are stopped: one event, set once, ends every wait."""

import asyncio


class Stop:
    """Set once, when the process is asked to end."""

    def __init__(self) -> None:
        """Begin unset."""
        self._event = asyncio.Event()

    def __bool__(self) -> bool:
        """Tell whether it is time to stop."""
        return self._event.is_set()

    def set(self) -> None:
        """Ask every loop to end."""
        self._event.set()

    async def within(self, seconds: float) -> bool:
        """Wait at most `seconds`; return whether it is time to stop."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._event.wait()
            except TimeoutError:
                pass  # the usual end of a wait
        else:
            await asyncio.sleep(0)
        return self._event.is_set()
