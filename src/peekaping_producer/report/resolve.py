"""Which monitor an argument means: its id, or else its name."""

from msgspec import Struct

from peekaping_producer.catalog.catalog import Catalog
from peekaping_producer.catalog.reading import Named, is_text
from peekaping_producer.model.monitor import MonitorId

NEITHER = "not a monitor id, and no monitor has this name"


class Target(Struct, frozen=True):
    """The monitor that an argument means, or why it means none."""

    argument: str
    monitor_id: MonitorId | None = None
    """None if it means no monitor, or several."""
    named: bool = False
    """Whether it was found by its name."""
    matches: tuple[Named, ...] = ()
    """The monitors of an ambiguous name."""

    @property
    def problem(self) -> str | None:
        """Why it means no monitor; None if it means one."""
        if self.monitor_id is not None:
            return None
        return f"{len(self.matches)} monitors have this name, give the id of one" if self.matches else NEITHER


def id_of(argument: str, catalog: Catalog) -> MonitorId | None:
    """Return the id that the argument is, in its canonical form; None if it is not a valid id in this database."""
    text = argument.strip().lower()
    return MonitorId(text) if catalog.is_id(text) else None


async def resolve(argument: str, catalog: Catalog) -> Target:
    """Find the monitor that an argument means. Raises Unavailable if the name must be looked up and cannot be."""
    id_, name = id_of(argument, catalog), argument.strip()
    if id_ is not None:
        return Target(argument, id_)
    # A shell may pass bytes that are not valid UTF-8; no database has such a name.
    matches = tuple(await catalog.named(name)) if name and is_text(name) else ()
    if len(matches) == 1:
        return Target(argument, matches[0].id, named=True)
    return Target(argument, matches=matches)
