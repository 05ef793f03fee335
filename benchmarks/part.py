"""A part of the benchmark: what all parts have in common, and how much they measure."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from msgspec import Struct

from benchmarks.database import Database, postgres_database, sqlite_database
from benchmarks.figures import Case

HERD_INTERVAL_S = 3_600
FAR_INTERVAL_S = 1_000_000_000
"""Monitors of an idle producer: due in years."""
STEADY_INTERVAL_S = 60
IDLE_MONITORS = 100
KINDS: Final[dict[str, Callable[[int, int], AbstractContextManager[Database]]]] = {
    "postgres": postgres_database,
    "sqlite": sqlite_database,
}


class Size(Struct, frozen=True):
    """How much is measured."""

    rounds: int = 3
    monitors: tuple[int, ...] = (20_000,)
    """Of a herd; the first number is that of all parts with a herd."""
    nodes: tuple[int, ...] = (1, 2)
    steady_monitors: tuple[int, ...] = (100_000,)
    steady_s: float = 45
    swept: int = 100_000
    """Monitors of `sync` and `flush`."""
    after_s: float = 6
    """How long the lateness is watched after a flush, twice."""
    events: int = 10_000
    """In one burst."""
    concurrencies: tuple[int, ...] = (10, 32)
    """Values of PRODUCER_CONCURRENCY with a slow database."""
    idle: tuple[int, ...] = (10, 128)
    """Values of PRODUCER_CONCURRENCY of an idle producer."""
    idle_s: float = 5
    starts: int = 5
    readings: int = 40
    """Of one batch, on each kind of database."""
    heartbeats: int = 1_000_000
    """Among which the newest are found."""
    watched_s: float = 3
    """How long the load by which the lateness is measured lasts, each time."""
    entries: int = 1_000
    """Periodic entries of each peer, due at once."""
    many: int = 1_000_000
    many_s: float = 120


DEFAULT: Final = Size()
FULL: Final = Size(
    monitors=(20_000, 200_000),
    nodes=(1, 2, 4),
    steady_monitors=(100_000, 1_000_000, 1_500_000),
    steady_s=600,
    swept=1_000_000,
    after_s=60,
    concurrencies=(1, 4, 10, 32),
    readings=60,
    entries=10_000,
)
QUICK: Final = Size(
    rounds=1,
    monitors=(2_000,),
    steady_monitors=(6_000,),
    steady_s=1,
    swept=6_000,
    after_s=0.5,
    events=200,
    concurrencies=(10,),
    idle=(10,),
    idle_s=1,
    starts=1,
    readings=2,
    heartbeats=10_000,
    watched_s=0.5,
    entries=100,
    many=5_000,
    many_s=3,
)


class Bench:
    """What a part is given: how much to measure, and databases that parts share."""

    def __init__(self, size: Size, flames: Path | None = None) -> None:
        """Take the folder for flame graphs, if there are to be some."""
        self.size = size
        self.flames = flames
        self._databases: dict[tuple[str, int, int], Database] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def database(self, kind: str, monitors: int, interval_s: int) -> Database:
        """Return a database of this many monitors. Another part may use it later, so its rows stay as they are."""
        key = kind, monitors, interval_s
        if key not in self._databases:
            self._databases[key] = self._stack.enter_context(KINDS[kind](monitors, interval_s))
        return self._databases[key]


class Part(Struct, frozen=True):
    """One part of the benchmark, by its name."""

    name: str
    measures: str
    takes_s: int
    """About how long it takes on two cores, with the default sizes."""
    measure: Callable[[Bench], Iterable[Case]]
    by_default: bool = True
    """If not, only `--full` and `--only` run it."""
