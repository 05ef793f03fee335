"""Figures as words for people. What stands in Redis may be garbage, and is written in some way too."""

from collections.abc import Iterator, Sequence

from peekaping_producer.clock import from_unix_ms, rfc3339

_LONGEST_S = 1e9
"""Some thirty years: a longer span is nobody's."""


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Return the rows as lines, every column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def span(seconds: float) -> str:
    """Return a span of time as `350 ms`, `12.3 s`, `5 min` or `7 h 20 min`."""
    if not abs(seconds) < _LONGEST_S:
        return "for ever"
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s".replace(".0 s", " s")
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def instant(unix_ms: float) -> str:
    """Return a score as RFC 3339, UTC, or as it is where it is no instant."""
    try:
        return rfc3339(from_unix_ms(int(unix_ms)))
    except (OverflowError, ValueError):
        return str(unix_ms)


def printable(text: str) -> str:
    """Return a text from Redis that may go to a terminal and into JSON."""
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]
