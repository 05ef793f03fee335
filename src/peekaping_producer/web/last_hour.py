"""The last hour of the fleet, as the page plots it: a point every few seconds, and marks of what happened."""

import time
from collections import deque
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from peekaping_producer.report.status_values import Status

POINT_EVERY_S = 5.0
_HOUR_S = 3600.0
_MOST_POINTS = int(_HOUR_S / POINT_EVERY_S)
_MOST_MARKS = 60


class Point(Struct, frozen=True):
    """The fleet at one instant."""

    at_s: float
    """Unix time."""
    checks_per_s: float | None
    """Of all nodes; None if it is not known, as for the lateness."""
    p50_ms: int | None
    """Of the node where it is highest."""
    p99_ms: int | None


class Mark(Struct, frozen=True):
    """Something that happened."""

    at_s: float
    kind: str
    """`outage`, `recovery` or `leader`."""
    text: str

    @property
    def at(self) -> datetime:
        """When."""
        return datetime.fromtimestamp(self.at_s, UTC)


class LastHour:
    """Remembers the points and the marks."""

    def __init__(self) -> None:
        """Begin with an empty hour."""
        self.points: deque[Point] = deque(maxlen=_MOST_POINTS)
        self.marks: deque[Mark] = deque(maxlen=_MOST_MARKS)
        self._down: set[str] = set()
        self._leader: str | None = None
        self._next_s = 0.0

    def note(self, status: Status | None, now_s: float, *, redis_down: bool) -> None:
        """Take what was just read; None if Redis did not answer."""
        if status or self.points:
            # Before it has answered once, this node is starting.
            self._mark("Redis", now_s, down=redis_down)
        if status:
            self._mark("Database", now_s, down=any(one.database_problem and not one.gone for one in status.nodes))
            if status.leader and status.leader != self._leader:
                if self._leader:
                    self.marks.append(Mark(now_s, "leader", f"{status.leader} leads"))
                self._leader = status.leader
        while self.marks and self.marks[0].at_s < now_s - _HOUR_S:
            self.marks.popleft()
        if (status or self.points) and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + POINT_EVERY_S - 0.5
            self.points.append(_point(status, now_s))

    @property
    def worst_ms(self) -> int | None:
        """The highest p99 of the hour."""
        return max((point.p99_ms for point in self.points if point.p99_ms is not None), default=None)

    def json(self) -> bytes:
        """Return both, column by column, as the plots need them."""
        columns = ("at_s", "checks_per_s", "p50_ms", "p99_ms")
        plotted: dict[str, object] = {name: [getattr(point, name) for point in self.points] for name in columns}
        return msgspec.json.encode(plotted | {"marks": list(self.marks)})

    def _mark(self, system: str, now_s: float, *, down: bool) -> None:
        if down and system not in self._down:
            self._down.add(system)
            self.marks.append(Mark(now_s, "outage", f"{system} unavailable"))
        elif not down and system in self._down:
            self._down.discard(system)
            self.marks.append(Mark(now_s, "recovery", f"{system} available"))


def _point(status: Status | None, now_s: float) -> Point:
    alive = [node.recent for node in status.nodes if not node.gone] if status else []
    if not alive:
        return Point(round(now_s, 1), None, None, None)
    return Point(
        round(now_s, 1),
        round(sum(one.checks_per_s for one in alive), 2),
        max((one.lateness_p50_ms for one in alive if one.lateness_p50_ms is not None), default=None),
        max((one.lateness_p99_ms for one in alive if one.lateness_p99_ms is not None), default=None),
    )
