"""What the database says of itself, and how many monitors it has."""

from collections.abc import Iterator

from peekaping_producer.catalog.reading import Counts, Facts
from peekaping_producer.preflight.finding import Area, Finding, Level

_TLS = {True: ", over TLS", False: ", without TLS", None: ""}
_WAL = "wal"


def database_findings(facts: Facts) -> Iterator[Finding]:
    """Return what there is to say about a database that has passed its catalog's check."""
    yield _found("server", f"{facts.kind} {facts.version} answers{_TLS[facts.tls]}")
    if facts.journal_mode is not None:
        yield _journal(facts.journal_mode)
    yield _found("tables", f"{', '.join(facts.tables)} can be read and have all the columns that are needed")


def count_findings(counts: Counts) -> Iterator[Finding]:
    """Return how many monitors there are."""
    if not counts.active and not counts.more:
        what = f"there are {counts.monitors:,} monitors, none of them active: nothing will be checked"
        yield Finding(
            Area.DATABASE, "monitors", Level.WARNING, what, "check DB_NAME if there should be active monitors"
        )
    elif counts.more:
        yield _found("monitors", f"there are more than {counts.monitors:,} monitors")
    else:
        yield _found("monitors", f"there are {counts.monitors:,} monitors, {counts.active:,} of them active")


def _journal(mode: str) -> Finding:
    if mode == _WAL:
        return _found("journal", "the file is in WAL mode")
    return Finding(
        Area.DATABASE,
        "journal",
        Level.WARNING,
        f"the file is in journal mode {mode}: reads fail while Peekaping writes",
        "set PRAGMA journal_mode=WAL, as Peekaping does",
    )


def _found(topic: str, what: str) -> Finding:
    return Finding(Area.DATABASE, topic, Level.OK, what)
