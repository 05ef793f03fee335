"""The limits that every database's module keeps."""

from msgspec import Struct

CONNECT_TIMEOUT_S = 5.0
"""For a new connection, and for the check at the start."""
MOST_NAMED = 100
"""The most monitors of one name that are read: more than anyone would want to choose from."""
MOST_STRAYS = 100
"""Active monitors with an invalid id that a sweep reads."""

MOST_COUNTED = 100_000
"""Monitors that are counted: a fraction of a second on every database."""


class Limits(Struct, frozen=True):
    """How many connections a catalog may open, and how long a read may take."""

    connections: int
    """For batches. One more is opened for urgent reads, and one for reads of whole tables."""
    timeout_s: float
    scan_timeout_s: float
    """For a read of a whole table, or of a page of it."""
