"""What a leader does during its term."""

from collections.abc import Awaitable, Callable

from msgspec import Struct

from peekaping_producer.leader.term import Term
from peekaping_producer.node.outage import OutageUser


class Duty(Struct, frozen=True):
    """One task of a leader."""

    name: str
    """In the log."""
    run: Callable[[Term], Awaitable[None]]
    """Runs until the term is over. If it raises anything but NotLeading, it is started again."""
    database: OutageUser | None = None
    """Marked as failed if `run` says that the database is unavailable; None if `run` does not read the database."""
