"""The metrics that docs/metrics.md lists, which a test compares with what a node serves."""

import re
from pathlib import Path

from peekaping_producer.observe.outcomes import Outcome

_DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(peekaping_producer_\w+)` \| (\w+) \| (\w*) \| (.*?) \| (.+) \|$", re.MULTILINE)
ROWS: list[tuple[str, str, str, str, str]] = ROW.findall(_DOCS.read_text(encoding="utf-8"))
"""Name, type, unit, labels, meaning."""
ANY_VALUE = {"version", "python", "outcome"}
"""Labels whose values the table does not list."""


def _labels(cell: str) -> dict[str, set[str]]:
    listed = {label: set(values.split(", ")) for label, values in re.findall(r"`(\w+)`: ([\w, ]+?)(?=, `|$)", cell)}
    return {
        label: listed.get(label, {*Outcome} if label == "outcome" else set()) for label in re.findall(r"`(\w+)`", cell)
    }


LISTED: dict[str, dict[str, set[str]]] = {name: _labels(labels) for name, _, _, labels, _ in ROWS}
"""Name → label → values."""
