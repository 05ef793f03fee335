"""A report as a table."""

from collections.abc import Iterator, Mapping

from benchmarks.against import Comparison, Key
from benchmarks.figures import QUARTILES_FROM, Figure, number
from benchmarks.report import Report

_WORDS = {"cpu": "CPU", "redis": "Redis"}
HEAD = (
    f"Medians, and their spread: the lowest and highest of the rounds; from {QUARTILES_FROM} rounds on, the quartiles."
)


def as_text(report: Report, compared: Mapping[Key, Comparison] | None = None) -> str:
    """Lay out all figures in columns, with their goals, beside the earlier ones if there are any."""
    host = report.machine
    rows: list[tuple[str, ...]] = []
    for part, measured in report.parts.items():
        rows.append((f"\n{part}, {measured.took_s:.0f} s",))
        for case in measured.cases:
            rows.append((f"  {case.name}",))
            if case.note:
                rows.append((f"    ({case.note})",))
            for name, one in case.figures.items():
                comparison = (compared or {}).get((part, case.name, name))
                rows.append((f"    {in_words(name)}", *_cells(one), _compared(comparison)))
        if measured.failed:
            rows.append((f"  failed: {measured.failed}",))
    load = (
        f"Load of the machine before the run ({host.cores} cores): {host.load_before:.2f}; for a fair comparison it"
        " should be below 0.5."
    )
    return "\n".join([HEAD, load, *_laid_out(rows)])


def in_words(name: str) -> str:
    """Return the name of a figure as a reader expects it."""
    return " ".join(_WORDS.get(word, word) for word in name.split("_"))


def _cells(one: Figure) -> tuple[str, str, str]:
    spread = f"{number(one.low)}–{number(one.high)} of {one.rounds}" if one.rounds > 1 else "one round"
    return f"{number(one.median)} {one.unit}".rstrip(), spread, one.goal


def _compared(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    return f"{'' if comparison.ratio is None else f'× {comparison.ratio:.2f}, '}{comparison.verdict}"


def _laid_out(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Align the columns of the rows that have several."""
    full = [row for row in rows if len(row) > 1]
    widths = [max(len(cell) for cell in column) for column in zip(*full, strict=True)]
    for row in rows:
        if len(row) == 1:
            yield row[0]
        else:
            yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
