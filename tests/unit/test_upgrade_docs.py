"""docs/upgrade.md names log events by which operators search: they must be those that the code writes."""

import re
from pathlib import Path

import peekaping_producer

SOURCE = Path(peekaping_producer.__file__).parent
GUIDE = SOURCE.parents[1] / "docs" / "upgrade.md"


def test_the_events_of_the_upgrade_guide_are_those_of_the_code() -> None:
    code = "".join(path.read_text() for path in SOURCE.rglob("*.py"))
    _, _, table = GUIDE.read_text().partition("| Go producer's `msg` | our `event` |")
    rows = table.partition("\n\n")[0].splitlines()
    events = [event for row in rows for event in re.findall(r"`([^`]+)`", row.rpartition(" | ")[2])]
    assert len(events) >= 7
    for event in events:
        filled_in = "} " + event.partition(" ")[2] + '"'
        assert f'"{event}"' in code or filled_in in code, event
