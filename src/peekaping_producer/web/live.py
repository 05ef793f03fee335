"""The live page: one snapshot for all readers, and a stream of what has changed in it for each of them."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import cached_property

import msgspec

from peekaping_producer.node.stop import Stop
from peekaping_producer.timing import Timing
from peekaping_producer.web.last_hour import POINT_EVERY_S, LastHour
from peekaping_producer.web.rendering import Rendering
from peekaping_producer.web.snapshot import Snapshot, SnapshotReader

_AGAIN_AFTER_S = 0.05
MOST_READERS = 100
"""Open pages that are updated live; a further one is refused."""


class View:
    """One snapshot, rendered when it is first needed, and then once for all."""

    def __init__(self, number: int, snapshot: Snapshot, hour: LastHour, rendering: Rendering) -> None:
        """Take a number that is one more than that of the view before."""
        self.number = number
        self.snapshot = snapshot
        self._hour = hour
        self._rendering = rendering
        newest = hour.points[-1] if hour.points else None
        self._point = newest if newest and newest.at_s == snapshot.now.timestamp() else None
        """The point that was added with it."""

    @cached_property
    def parts(self) -> dict[str, str]:
        """The parts of the page, as HTML."""
        return self._rendering.parts(self.snapshot, self._hour)

    @cached_property
    def page(self) -> str:
        """The whole page, as HTML."""
        return self._rendering.page(self.snapshot, self.parts)

    @cached_property
    def whole(self) -> bytes:
        """The events that bring any page up to date."""
        return _event("hour", self._hour.json()) + _event("parts", msgspec.json.encode(self.parts))

    def changes(self, before: "View") -> bytes:
        """Return the events that bring up to date a page that shows the view before this one."""
        changed = {name: html for name, html in self.parts.items() if html != before.parts.get(name)}
        news = _event("parts", msgspec.json.encode(changed))
        if self._point:
            news += _event("point", msgspec.json.encode({"point": self._point, "marks": [*self._hour.marks]}))
        return news


class Live:
    """Takes the snapshots: once a second while a page is open, and every few seconds otherwise."""

    def __init__(self, reader: SnapshotReader, rendering: Rendering, timing: Timing, closing: Stop) -> None:
        """Take what makes the views; streams end at `closing`."""
        self.readers = 0
        self._reader = reader
        self._rendering = rendering
        self._kept_s = timing.figures_kept_s
        self._closing = closing
        self._hour = LastHour()
        self._view: View | None = None
        self._with_dial = False
        self._until_s = self._asked_at_s = 0.0
        self._taking = asyncio.Lock()
        self._taken = asyncio.Condition()
        self._wanted = closing.bell()
        self._changes: tuple[int, bytes] = (0, b"")

    async def loop(self, stop: Stop) -> None:
        """Take snapshots until it is time to stop."""
        async with self._taking:
            await asyncio.to_thread(self._rendering.compile)
        while not stop:
            wanted = self.readers > 0 or time.monotonic() < self._asked_at_s + POINT_EVERY_S
            async with stop.cutting_short():
                await self._current(with_dial=wanted)
            if await self._wanted.within(self._kept_s if self.readers else POINT_EVERY_S):
                await stop.within(_AGAIN_AFTER_S)
        async with self._taken:
            self._taken.notify_all()  # the streams end

    async def current(self) -> View:
        """Return a view that is at most a second old."""
        self._asked_at_s = time.monotonic()
        return await self._current(with_dial=True)

    async def events(self) -> AsyncIterator[bytes]:
        """Return what a page needs to stay up to date; its reader sets the pace, and skips what it was too slow for."""
        self.readers += 1
        self._wanted.ring()
        try:
            yield b"retry: 2000\n\n"
            seen: View | None = None
            while view := await self._after(seen):
                missed_none = seen is not None and view.number == seen.number + 1
                yield self._changes_of(view, seen) if missed_none and seen else view.whole
                seen = view
        finally:
            self.readers -= 1

    def _changes_of(self, view: View, before: View) -> bytes:
        if self._changes[0] != view.number:
            self._changes = view.number, view.changes(before)
        return self._changes[1]

    async def _after(self, seen: View | None) -> View | None:
        """Wait for a view after this one; None when it is time to stop."""
        async with self._taken:
            while not self._closing:
                view = self._view
                if view and self._with_dial and (seen is None or view.number > seen.number):
                    return view
                await self._taken.wait()
        return None

    async def _current(self, *, with_dial: bool) -> View:
        async with self._taking:
            outdated = time.monotonic() >= self._until_s or (with_dial and not self._with_dial)
            if self._view and not outdated:
                return self._view
            snapshot = await self._reader.snapshot(with_dial=with_dial)
            self._hour.note(
                snapshot.found.status if snapshot.found and not snapshot.redis_down else None,
                snapshot.now.timestamp(),
                redis_down=snapshot.redis_down,
            )
            number = self._view.number + 1 if self._view else 1
            view = self._view = View(number, snapshot, self._hour, self._rendering)
            self._with_dial = with_dial
            self._until_s = time.monotonic() + self._kept_s * 0.95
        async with self._taken:
            self._taken.notify_all()
        return view


def _event(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
