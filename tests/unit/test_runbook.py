"""docs/runbook.md has an entry for each line of the log: what it means, what users notice, and what to do."""

import re
from collections import Counter
from pathlib import Path

import pytest

from peekaping_producer.observe.events import LogEvent
from support.markdown import anchors

DOCS = Path(__file__).parents[2] / "docs"
RUNBOOK = (DOCS / "runbook.md").read_text(encoding="utf-8")
LEVELS = dict(
    re.findall(r"^\| `([^`]+)` \| (\w+(?:, \w+)*) \|", (DOCS / "logs.md").read_text(encoding="utf-8"), re.MULTILINE)
)
"""Event → levels, as docs/logs.md lists them; a test compares that with the code."""
SEVERE = [event for event in LogEvent if re.search("warning|error", LEVELS[event])]
PARTS = ["Means", "Users notice", "Do"]


def parts_of(heading: str) -> list[str]:
    """Return the parts of an entry, in order."""
    entry = re.split(r"^#+ ", RUNBOOK.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^\*\*([\w ]+)(?::\*\*|\*\*, by reason:) *\S*", entry, re.MULTILINE)


@pytest.mark.parametrize("event", SEVERE)
def test_a_line_that_may_need_action_has_an_entry(event: LogEvent) -> None:
    assert f"\n#### {event}\n" in RUNBOOK
    assert parts_of(event.value) == PARTS


def test_the_others_are_listed_as_nothing_to_do() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| .+ \| .+ \|$", RUNBOOK.partition("### Nothing to do")[2], re.MULTILINE)
    assert sorted(rows) == sorted(set(LogEvent) - set(SEVERE))


@pytest.mark.parametrize("alert", re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE))
def test_an_alert_has_the_same_parts(alert: str) -> None:
    assert parts_of(alert) == PARTS


def test_every_link_within_it_leads_to_a_heading() -> None:
    times = Counter(anchors(RUNBOOK))
    assert max(times.values()) == 1
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) <= times.keys()


def test_every_event_that_it_names_exists() -> None:
    named = re.findall(r"^#### (.+)$", RUNBOOK, re.MULTILINE)
    assert [event for event in named if event not in set(LogEvent)] == []
