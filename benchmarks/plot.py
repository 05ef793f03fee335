"""A report as a picture: the rates as bars, ours next to the limits and to other schedulers."""

from collections.abc import Iterator
from html import escape

from benchmarks.figures import Figure, Role
from benchmarks.report import Report

PLOTTED = ("ceiling", "herd", "peers")
"""Parts whose cases are bars, in this order."""
_COLOURS = {Role.OURS: "#2f6fde", Role.LIMIT: "#9aa5b1", Role.PEER: "#c9822b"}
_LEGEND = {Role.OURS: "this producer", Role.LIMIT: "limit: Redis or the database alone", Role.PEER: "other schedulers"}
_BAR, _GAP, _LEFT, _WIDTH = 22, 10, 330, 860
"""Pixels: a bar's height, the gap below it, the space for names, and the whole."""
_LONGEST = _WIDTH - _LEFT - 90
"""The longest bar leaves room for its figure."""
_TOP = 62


def as_plot(report: Report) -> str | None:
    """Draw the picture as an SVG; None if nothing of it was measured."""
    bars = list(_bars(report))
    if not bars:
        return None
    most = max(one.high for _, one, _ in bars)
    height = _TOP + 10 + len(bars) * (_BAR + _GAP)
    title = escape(f"tasks per second, on {report.machine.cores} cores shared with Redis and the database")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="#fff"/><text x="{_LEFT}" y="24">{title}</text>'
        f"{_legend({role for _, _, role in bars})}"
        f"{''.join(_drawn(_TOP + number * (_BAR + _GAP), *bar, most) for number, bar in enumerate(bars))}</svg>\n"
    )


def _bars(report: Report) -> Iterator[tuple[str, Figure, Role]]:
    for part in PLOTTED:
        for case in report.parts[part].cases if part in report.parts else ():
            for one in list(case.figures.values())[:1]:
                yield case.name, one, case.role


def _drawn(top: int, name: str, one: Figure, role: Role, most: float) -> str:
    low, middle, high = (_LONGEST * value / most for value in (one.low, one.median, one.high))
    baseline, centre = top + _BAR / 2 + 4, top + _BAR / 2
    spread = f'<path d="M{_LEFT + low:.0f} {centre}H{_LEFT + high:.0f}" stroke="#000" stroke-width="1"/>'
    return (
        f'<text x="{_LEFT - 10}" y="{baseline}" text-anchor="end">{escape(name)}</text>'
        f'<rect x="{_LEFT}" y="{top}" width="{max(1, middle):.0f}" height="{_BAR}" fill="{_COLOURS[role]}"/>'
        f"{spread if one.rounds > 1 else ''}"
        f'<text x="{_LEFT + max(middle, high) + 8:.0f}" y="{baseline}">{one.median:,.0f}</text>'
    )


def _legend(roles: set[Role]) -> str:
    drawn, left = "", _LEFT
    for role in Role:
        if role in roles:
            drawn += f'<rect x="{left}" y="37" width="12" height="12" fill="{_COLOURS[role]}"/>'
            drawn += f'<text x="{left + 18}" y="48">{_LEGEND[role]}</text>'
            left += 40 + 7 * len(_LEGEND[role])
    return drawn
