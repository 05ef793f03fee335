"""The HTML of the page, from the templates beside this file. Everything that is put into one is escaped."""

import math
from datetime import datetime
from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from peekaping_producer import __version__
from peekaping_producer.report.format import count, printable, printable_name, span
from peekaping_producer.web.headline import Level
from peekaping_producer.web.last_hour import LastHour
from peekaping_producer.web.snapshot import Snapshot
from peekaping_producer.web.static_files import StaticFiles

PARTS: Final = ("headline", "rates", "clock", "fleet", "queue", "trouble", "next")
"""The parts that are updated live: the templates in `parts/`."""
_LATE_S = 10
_LEVELS: Final = {Level.OK: "ok", Level.ATTENTION: "attention", Level.BAD: "bad"}


class Rendering:
    """Renders the templates."""

    def __init__(self, node_id: str, files: StaticFiles, *, actions: bool) -> None:
        """Compile nothing yet. With `actions`, the pages have forms, which need the token."""
        self._templates = _templates()
        self._always = {"actions": actions, "node_id": node_id, "version": __version__, "static": files.address}

    def compile(self) -> None:
        """Compile all templates, which takes a tenth of a second: in a thread."""
        for name in self._templates.list_templates():
            self._templates.get_template(name)

    def parts(self, snapshot: Snapshot, hour: LastHour) -> dict[str, str]:
        """Return the live parts, by name."""
        found = snapshot.found
        values = {
            "snapshot": snapshot,
            "headline": snapshot.headline,
            "found": found,
            "status": found.status if found else None,
            "dial": found.dial if found else None,
            "hour": hour,
        }
        return {name: self._render(f"parts/{name}.html", **values) for name in PARTS}

    def page(self, snapshot: Snapshot, parts: dict[str, str], done: str | None = None) -> str:
        """Return the whole page; `done` is what the last action did."""
        return self._render("overview.html", snapshot=snapshot, parts=parts, done=done)

    def other(self, template: str, **values: object) -> str:
        """Return another page."""
        return self._render(template, **values)

    def _render(self, template: str, **values: object) -> str:
        return self._templates.get_template(template).render(self._always, **values)


@cache
def _templates() -> Environment:
    """Return the templates, which all pages of this process share."""
    templates = Environment(
        loader=PackageLoader("peekaping_producer.web"),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "count": count,
        "name": printable_name,
        "id": printable,
        "span": span,
        "level": _LEVELS.__getitem__,
        "clock": lambda instant: instant.strftime("%H:%M:%S"),
        "instant": datetime.fromisoformat,
        "due": _due,
        "stamp": _stamp,
        "ms": _ms,
    }
    return templates


def _ms(value: int | None) -> str:
    if value is None:
        return "–"
    return f"{value} ms" if value < 10_000 else span(value / 1000)  # noqa: PLR2004 - five digits are hard to read


def _stamp(instant: datetime | str) -> str:
    """Return an instant to the second, with its day."""
    return f"{datetime.fromisoformat(instant) if isinstance(instant, str) else instant:%Y-%m-%d %H:%M:%S}"


def _due(in_s: float) -> str:
    """Return when a check is due; garbage in the schedule may be infinite."""
    if in_s < 1:
        return "now" if in_s > -_LATE_S else f"{span(round(-in_s, 0))} late"
    return span(in_s // 1 if in_s < math.inf else in_s)
