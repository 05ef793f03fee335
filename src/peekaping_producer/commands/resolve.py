"""Which monitor an argument means: its id, or else its name."""

from msgspec import Struct

from peekaping_producer.catalog.catalog import Catalog
from peekaping_producer.catalog.reading import Named, is_text
from peekaping_producer.model.monitor import MonitorId

NEITHER = "not a monitor id, and no monitor has this name"


class Meant(Struct, frozen=True):
    """What an argument means."""

    argument: str
    monitor_id: MonitorId | None = None
    """None where it means no monitor, or several."""
    named: bool = False
    """It was found by its name."""
    matches: tuple[Named, ...] = ()
    """The monitors among which the name does not decide."""

    @property
    def problem(self) -> str | None:
        """Why it means no monitor; None where it means one."""
        if self.monitor_id is not None:
            return None
        return f"{len(self.matches)} monitors have this name, give the id of one" if self.matches else NEITHER


def id_of(argument: str, catalog: Catalog) -> MonitorId | None:
    """Return the id that the argument is, in its canonical form; None if it is not a valid id in this database."""
    text = argument.strip().lower()
    return MonitorId(text) if catalog.is_id(text) else None


async def meant_by(argument: str, catalog: Catalog) -> Meant:
    """Find out which monitor is meant. Raises Unavailable when names are needed and can't be read."""
    id_, name = id_of(argument, catalog), argument.strip()
    if id_ is not None:
        return Meant(argument, id_)
    # No database has a name that is not valid UTF-8, as a shell may hand one over.
    matches = tuple(await catalog.named(name)) if name and is_text(name) else ()
    if len(matches) == 1:
        return Meant(argument, matches[0].id, named=True)
    return Meant(argument, matches=matches)
