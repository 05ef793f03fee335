"""What is measured: figures with their noise, and the cases that they belong to."""

import statistics
from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

QUARTILES_FROM = 8
"""With fewer rounds than this, the spread is from the lowest to the highest; with more, between the quartiles."""


class Role(StrEnum):
    """Whose figures a case shows."""

    OURS = "ours"
    LIMIT = "limit"
    """What Redis, or a database, does alone."""
    PEER = "peer"
    """Another scheduler."""


class Figure(Struct, frozen=True, omit_defaults=True):
    """One figure: the median over the rounds, and their spread."""

    median: float
    low: float
    high: float
    rounds: int
    unit: str
    more_is_better: bool | None = None
    goal: str = ""


class Case(Struct, frozen=True, omit_defaults=True):
    """What was measured in one situation. The name says all that makes it comparable, such as how many monitors."""

    name: str
    figures: dict[str, Figure]
    """The first is the one that the plot shows."""
    role: Role = Role.OURS
    note: str = ""
    """What a reader must know; if there are no figures, why."""


def figure(values: float | Sequence[float], unit: str, *, more_is_better: bool | None = None, goal: str = "") -> Figure:
    """Return the figure of some rounds, or of one."""
    rounds = sorted([float(values)] if isinstance(values, int | float) else map(float, values))
    low, high = rounds[0], rounds[-1]
    if len(rounds) >= QUARTILES_FROM:
        low, _, high = statistics.quantiles(rounds, method="inclusive")
    return Figure(statistics.median(rounds), low, high, len(rounds), unit, more_is_better, goal)


def rate(values: float | Sequence[float], goal: str = "") -> Figure:
    """Return a figure per second, of which more is better."""
    return figure(values, "/s", more_is_better=True, goal=goal)


def cost(values: float | Sequence[float], unit: str, goal: str = "") -> Figure:
    """Return a figure of which less is better."""
    return figure(values, unit, more_is_better=False, goal=goal)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that `percent` of all are below; 0 if there are none."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)] if values else 0.0


def number(value: float) -> str:
    """Return a figure in digits, as many as it deserves."""
    size = abs(value)
    digits = 0 if size >= 99.95 or value == 0 else 1 if size >= 9.995 else 2 if size >= 0.1 else 4
    return f"{value:,.{digits}f}"
