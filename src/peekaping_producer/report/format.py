"""Formats numbers and texts for people. Values from Redis and the database may be garbage, and are printed too."""

from collections.abc import Iterator, Sequence

from peekaping_producer.clock import from_unix_ms, rfc3339

_LONGEST_S = 1e9
"""Some thirty years: a longer span is garbage."""


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Return the rows as lines, each column as wide as its widest cell; columns without any cell are left out."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    used = [any(column[1:]) or len(rows) == 1 for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, used, strict=True)
        yield "  ".join(cell.ljust(width) for cell, width, use in cells if use).rstrip()


def span(seconds: float) -> str:
    """Return a span of time as `350 ms`, `12.3 s`, `5 min`, `7 h 20 min` or `3 d 4 h`."""
    if not abs(seconds) < _LONGEST_S:
        return "more than 30 years"
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s".replace(".0 s", " s")
    minutes = round(seconds / 60)
    hours, minutes_left = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if days:
        return f"{days} d {hours_left} h" if hours_left else f"{days} d"
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes_left} min" if minutes_left else f"{hours} h"


def instant(unix_ms: float) -> str:
    """Return a score as RFC 3339, UTC; unchanged if it is not a valid time."""
    try:
        return rfc3339(from_unix_ms(int(unix_ms)))
    except (OverflowError, ValueError):
        return str(unix_ms)


def count(number: int, one: str, many: str) -> str:
    """Return a number of things: `1 monitor`, `1,234 monitors`."""
    return f"{number:,} {one if number == 1 else many}"


def printable(text: str) -> str:
    """Return a text from Redis, safe for a terminal and for JSON."""
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


def printable_name(text: str) -> str:
    """Return a monitor's name, safe for a terminal, in any script."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
