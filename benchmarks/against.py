"""Comparison with an earlier report: by how much each figure has changed, and whether that is more than noise."""

from collections.abc import Iterator
from enum import StrEnum

from msgspec import Struct

from benchmarks.figures import Figure
from benchmarks.report import Report

Key = tuple[str, str, str]
"""Names of part, case and figure."""


class Verdict(StrEnum):
    """What a change means."""

    NOISE = "within the noise"
    """The spreads of both overlap."""
    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"
    """Neither more nor less is better."""
    UNKNOWN = "noise unknown"
    """One of them is a single round."""


class Comparison(Struct, frozen=True):
    """A figure beside an earlier one."""

    ratio: float | None
    """Now ÷ earlier; None if the earlier one is 0."""
    verdict: Verdict


def compare(now: Figure, earlier: Figure) -> Comparison:
    """Compare the medians; only where the spreads are apart has something changed."""
    ratio = now.median / earlier.median if earlier.median else None
    if now.median == earlier.median or (now.low <= earlier.high and earlier.low <= now.high):
        verdict = Verdict.NOISE
    elif min(now.rounds, earlier.rounds) == 1:
        verdict = Verdict.UNKNOWN
    elif now.more_is_better is None:
        verdict = Verdict.CHANGED
    else:
        verdict = Verdict.BETTER if (now.median > earlier.median) == now.more_is_better else Verdict.WORSE
    return Comparison(ratio, verdict)


def compare_all(now: Report, earlier: Report) -> dict[Key, Comparison]:
    """Compare what both have: the same figure of the same case, in the same unit."""
    before = dict(_figures(earlier))
    return {
        key: compare(one, before[key]) for key, one in _figures(now) if key in before and before[key].unit == one.unit
    }


def differences(now: Report, earlier: Report) -> list[str]:
    """Return what makes the comparison doubtful."""
    machines = [f"{one.processor}, {one.cores} cores, Python {one.python}" for one in (now.machine, earlier.machine)]
    return [f"measured on {machines[0]}; earlier on {machines[1]}"] if machines[0] != machines[1] else []


def _figures(report: Report) -> Iterator[tuple[Key, Figure]]:
    for part, measured in report.parts.items():
        for case in measured.cases:
            for name, one in case.figures.items():
                yield (part, case.name, name), one
