"""The changelog's heading of what is not released yet."""

import re
from datetime import date

_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


def released(changelog: str, version: str, day: date) -> str:
    """Return the changelog whose newest section is that of this version, released on this day.

    Raises ValueError if the newest section is not marked as unreleased.
    """
    newest = _HEADING.search(changelog)
    if newest is None or "unreleased" not in newest[1].lower():
        raise ValueError("CHANGELOG.md must begin with a section '## Unreleased' that says what changed")
    return f"{changelog[: newest.start()]}## {version} ({day.isoformat()}){changelog[newest.end() :]}"
