"""The load clock: how the checks of the next minute are spread over its seconds, as a dial and in words."""

import math
from collections.abc import Sequence

from msgspec import Struct

SECONDS = 60
_INNER, _OUTER = 44.0, 90.0
_ANGLES = [math.radians(second * 360 / SECONDS - 90) for second in range(SECONDS)]
_DIRECTIONS = [(math.cos(angle), math.sin(angle)) for angle in _ANGLES]
_FEW = 10
_LEAST_SPAN = 5
_EVEN, _BUNCHED = 0.6, 0.3
"""Limits of the measure in `verdict`."""


class Bar(Struct, frozen=True):
    """One second of the dial."""

    second: int
    count: int
    x1: float
    y1: float
    x2: float
    y2: float


class Dial(Struct, frozen=True):
    """The next minute."""

    bars: list[Bar]
    """One for each second of the minute, from :00."""
    hand: Bar
    """Where now is."""
    total: int
    busiest: int
    """Checks in the busiest second."""
    verdict: str
    """Whether the checks are spread, in a word or two."""


def dial(counts: Sequence[int], first_second: int) -> Dial:
    """Return the dial of the counts of 60 seconds, the first of which is second `first_second` of its minute."""
    most = max(counts, default=0)
    placed = sorted(((first_second + offset) % SECONDS, number) for offset, number in enumerate(counts))
    return Dial(
        bars=[_bar(second, number, number / most if most else 0.0) for second, number in placed],
        hand=_line(first_second, 0, _INNER - 12, _INNER - 3),
        total=sum(counts),
        busiest=most,
        verdict=verdict(counts),
    )


def verdict(counts: Sequence[int]) -> str:
    """Return whether the checks of the next minute are spread over its seconds, up to the last that has any.

    The measure is how many seconds, were they equally busy, would do the same work, compared with what chance gives.
    """
    total = sum(counts)
    if total < _FEW:
        return "few checks"
    seconds = max(_LEAST_SPAN, max(offset for offset, number in enumerate(counts) if number) + 1)
    mean = total / seconds
    working = total**2 / sum(number**2 for number in counts)
    share = working / (seconds * mean / (mean + 1))
    if share > _EVEN:
        return "spread evenly"
    return "aligned" if share < _BUNCHED else "uneven"


def _bar(second: int, number: int, share: float) -> Bar:
    return _line(second, number, _INNER, _INNER + (1.5 if not number else 3 + (_OUTER - _INNER - 3) * share))


def _line(second: int, number: int, inner: float, outer: float) -> Bar:
    x, y = _DIRECTIONS[second]
    return Bar(second, number, round(inner * x, 2), round(inner * y, 2), round(outer * x, 2), round(outer * y, 2))
