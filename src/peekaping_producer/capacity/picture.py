"""The picture of a plan: the load in each second, as an SVG."""

from collections.abc import Sequence
from itertools import pairwise

from peekaping_producer.capacity.simulation import Simulated

_WIDTH, _HEIGHT, _LEFT, _GAP = 720, 120, 70, 50
"""Pixels: of each plot, and around it."""
_MINUTE_S = 60


def drawn(monitors: int, interval_s: int, spread: Simulated, aligned: Simulated, outage: Simulated) -> str:
    """Return the picture: two intervals, once spread and once aligned, and the hour with the outage."""
    from_s = min(interval_s, len(spread.checks_per_second) // 2)
    to_s = min(len(spread.checks_per_second), from_s + max(2 * interval_s, 2 * _MINUTE_S))
    plots = [
        (f"spread (the default), {to_s - from_s} s", spread.checks_per_second[from_s:to_s]),
        (f"aligned, {to_s - from_s} s", aligned.checks_per_second[from_s:to_s]),
        ("spread, an hour with an outage", outage.checks_per_second),
    ]
    height = _GAP + len(plots) * (_HEIGHT + _GAP)
    title = f"{monitors:,} monitors, each checked every {interval_s} s: checks queued in each second"
    parts = [_plot(name, values, _GAP + place * (_HEIGHT + _GAP)) for place, (name, values) in enumerate(plots)]
    size = f'width="{_LEFT + _WIDTH + 20}" height="{height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13" role="img">'
        f'<title>{title}</title><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{_LEFT}" y="20" font-weight="bold">{title}</text>{"".join(parts)}</svg>\n'
    )


def _plot(name: str, values: Sequence[int], top: int) -> str:
    columns = [max(values[begin:end], default=0) for begin, end in pairwise(_edges(len(values)))]
    most = max(1, *columns)
    step = _WIDTH / len(columns)
    bottom = top + _HEIGHT
    points = " ".join(
        f"{_LEFT + place * step:.1f},{bottom - _HEIGHT * value / most:.1f}" for place, value in enumerate(columns)
    )
    return (
        f'<text x="{_LEFT}" y="{top - 8}">{name}</text>'
        f'<text x="{_LEFT - 8}" y="{top + 10}" text-anchor="end">{most:,}</text>'
        f'<text x="{_LEFT - 8}" y="{bottom}" text-anchor="end">0</text>'
        f'<polygon fill="#2f6fde" points="{_LEFT},{bottom} {points} {_LEFT + _WIDTH - step:.1f},{bottom}"/>'
    )


def _edges(values: int) -> Sequence[int]:
    """Return where the values of each column of pixels begin and end."""
    columns = min(values, _WIDTH)
    return [place * values // columns for place in range(columns + 1)]
