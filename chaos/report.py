"""What a run has shown: tables, JSON, and a picture of its faults and of the checks that were late or missed."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, Final

import msgspec
from msgspec import Struct

from chaos.evidence import Evidence, Incident
from chaos.judge import Recovery, Verdict
from chaos.plan import CHANGES, Kind
from chaos.rules import rule_of

_SHOWN_FAILURES: Final = 20
_SHARES: Final = {"p50": 50, "p99": 99, "max": 100}


Place = Callable[[int], float]
"""Where an instant is in the picture, from left to right."""


class Report(Struct, frozen=True):
    """One run and its judgement."""

    database: str
    seed: int
    seconds: float
    replay: str
    """The command that does the same again."""
    verdict: Verdict
    evidence: Evidence

    @property
    def passed(self) -> bool:
        """Whether all limits were met."""
        return not self.verdict.failures


def as_text(report: Report) -> str:
    """Return the tables."""
    verdict = report.verdict
    stalled_s = sum(stall.lasted_ms for stall in report.evidence.stalls) / 1000
    lines = [
        f"{_title(report)}, {report.seconds:g} s, {len(report.evidence.lives)} monitors",
        "",
        *_columns(
            [("fault", "times", "missed", "late", "to recover", "limit", "claims left behind"), *_fault_rows(verdict)]
        ),
        "",
        "late    " + ", ".join(f"{name} {_percentile(verdict.late_ms, share)} ms" for name, share in _SHARES.items()),
        f"        {_late_without_a_fault(verdict)} by more than a second without a fault",
        *_missed_lines(verdict),
        f"doubled {verdict.doubled}",
        f"lost    {verdict.lost}",
    ]
    if stalled_s:
        lines.append(f"(this machine stalled {len(report.evidence.stalls)} times, {stalled_s:.1f} s in all)")
    lines += ["", *verdict.failures[:_SHOWN_FAILURES]]
    if len(verdict.failures) > _SHOWN_FAILURES:
        lines.append(f"… and {len(verdict.failures) - _SHOWN_FAILURES} more")
    lines.append("all limits were met" if report.passed else "LIMITS WERE NOT MET")
    return "\n".join([*lines, f"to repeat: {report.replay}", ""])


def _fault_rows(verdict: Verdict) -> list[tuple[str, ...]]:
    by_kind: defaultdict[Kind, list[Recovery]] = defaultdict(list)
    for recovery in verdict.recoveries:
        by_kind[recovery.incident.kind].append(recovery)
    rows: list[tuple[str, ...]] = []
    for kind in Kind:
        found = by_kind.get(kind)
        if found:
            limit_ms, took_ms = rule_of(kind).recovers_ms, max(one.took_ms for one in found)
            claims_ms = max(one.claims_took_ms for one in found)
            rows.append(
                (
                    kind.value,
                    str(len(found)),
                    str(sum(one.missed for one in found)),
                    str(sum(one.late for one in found)),
                    f"{took_ms / 1000:.1f} s" if took_ms else "",
                    f"{limit_ms / 1000:g} s" if limit_ms else "",
                    f"{claims_ms / 1000:.1f} s" if claims_ms else "",
                )
            )
    return rows


def _late_without_a_fault(verdict: Verdict) -> int:
    return sum(not slot.missed and slot.incident is None for slot in verdict.slots)


def _missed_lines(verdict: Verdict) -> list[str]:
    missed = verdict.missed
    return [f"missed  {missed.total()}", *(f"  {number:5} {reason}" for reason, number in missed.most_common())]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first, *others = widths
    return [
        (
            f"{row[0]:{first}}  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(row[1:], others, strict=True))
        ).rstrip()
        for row in rows
    ]


def _percentile(values: Sequence[int], percent: float) -> int:
    return values[min(len(values) - 1, int(len(values) * percent / 100))] if values else 0


def as_json(report: Report) -> str:
    """Return all of it but the individual checks."""
    verdict = report.verdict
    content: dict[str, Any] = {
        "database": report.database,
        "seed": report.seed,
        "seconds": report.seconds,
        "passed": report.passed,
        "again": report.replay,
        "checks": verdict.checks,
        "late_ms": {name: _percentile(verdict.late_ms, share) for name, share in _SHARES.items()},
        "missed": {reason.value: number for reason, number in verdict.missed.items()},
        "doubled": verdict.doubled,
        "lost": verdict.lost,
        "faults": [
            {
                "kind": one.incident.kind.value,
                "what": one.incident.note,
                "from_ms": one.incident.began_ms - report.evidence.began_ms,
                "until_ms": one.incident.ended_ms - report.evidence.began_ms,
                "missed": one.missed,
                "late": one.late,
                "recovered_ms": one.took_ms,
                "claims_recovered_ms": one.claims_took_ms,
            }
            for one in verdict.recoveries
        ],
        "stalls": [[one.at_ms - report.evidence.began_ms, one.lasted_ms] for one in report.evidence.stalls],
        "failures": verdict.failures,
    }
    return msgspec.json.format(msgspec.json.encode(content).decode(), indent=2) + "\n"


_WIDTH: Final = 1100
_LEFT: Final = 230
_RIGHT: Final = 20
_ROW: Final = 20
_PLOT: Final = 160
_COLOURS: Final = {"Redis": "#c0392b", "database": "#2f6fde", "nodes": "#d68910", "data": "#9aa5b1"}


def as_picture(report: Report) -> str:
    """Draw the faults as bars over time, and below them each late check by its delay and each missed one."""
    evidence = report.evidence
    span_ms = max(1, evidence.ended_ms - evidence.began_ms)

    def x(at_ms: int) -> float:
        share = (at_ms - evidence.began_ms) / span_ms
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * min(1.0, max(0.0, share)), 1)

    kinds = [kind for kind in Kind if any(one.kind is kind for one in evidence.incidents)]
    parts = [f'<text x="10" y="20" font-weight="bold">{escape(_title(report))}</text>']
    for number, kind in enumerate(kinds):
        top = 36 + number * _ROW
        parts.append(f'<text x="{_LEFT - 8}" y="{top + 13}" text-anchor="end">{escape(kind.value)}</text>')
        parts += [_bar(x, incident, top) for incident in evidence.incidents if incident.kind is kind]
    top = 36 + len(kinds) * _ROW + 20
    parts += _late_checks(report.verdict, x, top)
    parts += _seconds(span_ms, evidence.began_ms, x, top + _PLOT)
    height = top + _PLOT + 40
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _title(report: Report) -> str:
    result = "all limits met" if report.passed else "limits not met"
    return f"{report.database}, seed {report.seed}: {report.verdict.checks} checks, {result}"


def _bar(x: Place, incident: Incident, top: int) -> str:
    left = x(incident.began_ms)
    width = max(3.0, x(incident.ended_ms) - left)
    group = "nodes" if "node" in incident.kind else "Redis"
    for name in ("Redis", "database"):
        group = name if incident.kind.startswith(name) else group
    if incident.kind in CHANGES | {Kind.GARBAGE, Kind.STUCK_TASKS}:
        group = "data"
    return (
        f'<rect x="{left}" y="{top + 2}" width="{width:.1f}" height="{_ROW - 6}" fill="{_COLOURS[group]}">'
        f"<title>{escape(incident.note)}</title></rect>"
    )


def _late_checks(verdict: Verdict, x: Place, top: int) -> list[str]:
    longest_ms = max([slot.made_good_ms - slot.at_ms for slot in verdict.slots if not slot.missed] + [2_000])
    parts = [
        f'<text x="{_LEFT - 8}" y="{top + 12}" text-anchor="end">late by {longest_ms / 1000:.1f} s</text>',
        f'<text x="{_LEFT - 8}" y="{top + _PLOT}" text-anchor="end">on time; missed (×)</text>',
        f'<line x1="{_LEFT}" y1="{top + _PLOT}" x2="{_WIDTH - _RIGHT}" y2="{top + _PLOT}" stroke="#ccc"/>',
    ]
    for slot in verdict.slots:
        if slot.missed:
            left = x(slot.at_ms)
            parts.append(f'<text x="{left - 4}" y="{top + _PLOT + 4}" fill="#c0392b">×</text>')
        else:
            y = top + _PLOT * (1 - (slot.made_good_ms - slot.at_ms) / longest_ms)
            parts.append(f'<circle cx="{x(slot.made_good_ms)}" cy="{y:.1f}" r="2" fill="#d68910" fill-opacity="0.6"/>')
    return parts


def _seconds(span_ms: int, began_ms: int, x: Place, bottom: int) -> list[str]:
    step_ms = next(
        step for step in (5_000, 10_000, 60_000, 300_000, 1_200_000) if span_ms / step <= 24 or step == 1_200_000
    )
    return [
        f'<text x="{x(began_ms + at_ms)}" y="{bottom + 20}" text-anchor="middle">{at_ms // 1000} s</text>'
        for at_ms in range(0, span_ms + 1, step_ms)
    ]
