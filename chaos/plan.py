"""What is broken, and when: chosen by a seed alone, so that a run can be repeated."""

import random
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

NODES: Final = 3
PERIODS_S: Final = (6, 8, 12)
"""The intervals of the monitors. All divide an hour, so a step of the clock by hours leaves every grid where it is."""
NOTICED_WITHIN_MS: Final = 8_000
"""How soon after a fault a change is noticed that no event reports, or whose event was lost: it is polled every 5 s."""
CALM_S: Final = NOTICED_WITHIN_MS / 1000 + 1.5 * max(PERIODS_S)
"""Nothing is broken at the end, for as long as a monitor that was created in the last fault needs for a check."""
_FIRST_S: Final = 2.0
_GAP_S: Final = (2.0, 6.0)
_OVERLAPS: Final = 0.25
"""How often a fault begins before the last one has ended, if they may come together."""
_CHANGE_EVERY_S: Final = (0.4, 2.0)


class Kind(StrEnum):
    """The faults, in the words of the report."""

    KILL = "node killed"
    FREEZE = "node frozen"
    TERMINATE = "node terminated"
    KILL_ALL = "all nodes killed"
    CUT_FROM_REDIS = "Redis cut off, one node"
    HANG_FROM_REDIS = "Redis hangs, one node"
    CUT_ALL_FROM_REDIS = "Redis cut off, all nodes"
    HANG_ALL_FROM_REDIS = "Redis hangs, all nodes"
    CUT_FROM_DATABASE = "database cut off, one node"
    HANG_FROM_DATABASE = "database hangs, one node"
    CUT_ALL_FROM_DATABASE = "database cut off, all nodes"
    HANG_ALL_FROM_DATABASE = "database hangs, all nodes"
    REDIS_KILLED = "Redis killed"
    FLUSHED = "Redis flushed"
    RESTORED = "Redis restored from a backup"
    FAILED_OVER = "Redis failed over"
    MEMORY_FULL = "Redis' memory full"
    CLOCK_STEPPED = "Redis' clock stepped"
    DATABASE_STOPPED = "database stopped"
    DATABASE_LOCKED = "database locked"
    STUCK_TASKS = "stuck tasks planted"
    GARBAGE = "garbage events"
    CREATE = "monitor created"
    EDIT = "monitor edited"
    CHANGE_INTERVAL = "interval changed"
    DELETE = "monitor deleted"
    SWITCH_OFF = "monitor switched off"
    SWITCH_ON = "monitor switched on"


class Fault(Struct, frozen=True):
    """One fault."""

    kind: Kind
    at_s: float
    """After the beginning of the run."""
    lasts_s: float = 0
    node: int = 0
    """Which of the nodes, for faults of one."""
    choice: int = 0
    """Chooses among what there is then: a monitor, an age, a direction."""
    event: bool = True
    """Whether an event reports the change of a monitor."""

    @property
    def ends_s(self) -> float:
        """After the beginning of the run."""
        return self.at_s + self.lasts_s

    def __str__(self) -> str:
        """Say it in words."""
        words = self.kind.value
        if self.kind in OF_ONE_NODE:
            words += f" (node {self.node + 1})"
        if self.kind in CHANGES and not self.event:
            words += ", no event"
        return words + (f", for {self.lasts_s:.1f} s" if self.lasts_s else "")


_DURATIONS_S: Final[dict[Kind, tuple[float, float]]] = {
    Kind.KILL: (0.5, 3),
    Kind.FREEZE: (2, 9),
    Kind.TERMINATE: (0.5, 2),
    Kind.KILL_ALL: (0.2, 2),
    Kind.CUT_FROM_REDIS: (0.1, 6),
    Kind.HANG_FROM_REDIS: (2, 8),
    Kind.CUT_ALL_FROM_REDIS: (0.1, 4),
    Kind.HANG_ALL_FROM_REDIS: (2, 5),
    Kind.CUT_FROM_DATABASE: (0.1, 8),
    Kind.HANG_FROM_DATABASE: (2, 8),
    Kind.CUT_ALL_FROM_DATABASE: (0.1, 6),
    Kind.HANG_ALL_FROM_DATABASE: (3, 8),
    Kind.REDIS_KILLED: (0.2, 4),
    Kind.FLUSHED: (0, 0),
    Kind.RESTORED: (0.2, 1),
    Kind.FAILED_OVER: (0.3, 2),
    Kind.MEMORY_FULL: (1, 4),
    Kind.CLOCK_STEPPED: (0, 0),
    Kind.DATABASE_STOPPED: (1, 6),
    Kind.DATABASE_LOCKED: (3, 7),
}
"""The faults that come one after another, and how long each lasts at least and at most."""
CHANGES: Final = frozenset({Kind.CREATE, Kind.EDIT, Kind.CHANGE_INTERVAL, Kind.DELETE, Kind.SWITCH_OFF, Kind.SWITCH_ON})
"""What happens to monitors."""
_DATA: Final = (*sorted(CHANGES), Kind.EDIT, Kind.SWITCH_ON, Kind.STUCK_TASKS, Kind.GARBAGE)
"""The faults that come all the time, beside the others."""
OF_ONE_NODE: Final = frozenset(
    {Kind.KILL, Kind.FREEZE, Kind.TERMINATE}
    | {Kind.CUT_FROM_REDIS, Kind.HANG_FROM_REDIS, Kind.CUT_FROM_DATABASE, Kind.HANG_FROM_DATABASE}
)
CUTS: Final = frozenset(
    {Kind.CUT_FROM_REDIS, Kind.CUT_ALL_FROM_REDIS, Kind.CUT_FROM_DATABASE, Kind.CUT_ALL_FROM_DATABASE}
)
_HANGS: Final = frozenset(
    {Kind.HANG_FROM_REDIS, Kind.HANG_ALL_FROM_REDIS, Kind.HANG_FROM_DATABASE, Kind.HANG_ALL_FROM_DATABASE}
)
NETWORK: Final = CUTS | _HANGS
"""Faults of the connections."""
OF_DATABASE: Final = frozenset(kind for kind in Kind if kind.startswith("database"))
"""Faults of the database, or of the way to it."""
_OF_NODES: Final = frozenset({Kind.KILL, Kind.FREEZE, Kind.TERMINATE, Kind.KILL_ALL})
SLOW_CHAOS: Final = (Kind.CUT_FROM_REDIS, Kind.HANG_FROM_REDIS, Kind.REDIS_KILLED, Kind.CUT_FROM_DATABASE)
"""What a soak breaks: nothing that ends a process of ours, as their memory is watched."""


def make_plan(seed: int, seconds: float, database: str) -> list[Fault]:
    """Return the faults of a run of this many seconds, in the order of their beginnings."""
    chance = random.Random(f"{seed}, {database}")
    end_s = seconds - CALM_S
    faults = [*_storm(chance, end_s, _kinds_for(database)), *_data_faults(chance, end_s)]
    return sorted(faults, key=lambda fault: (fault.at_s, fault.kind))


def _kinds_for(database: str) -> list[Kind]:
    """Return the kinds of faults that there are with a database: SQLite has no network and no server."""
    if database != "sqlite":
        return list(_DURATIONS_S)
    return [kind for kind in _DURATIONS_S if kind not in OF_DATABASE or kind is Kind.DATABASE_LOCKED]


def _storm(chance: random.Random, end_s: float, kinds: Sequence[Kind]) -> Iterator[Fault]:
    at_s, last = _FIRST_S, None
    for kind in _dealt(chance, kinds):
        if last is not None:
            overlaps = chance.random() < _OVERLAPS and _may_come_together(last.kind, kind)
            at_s = (last.at_s + last.lasts_s * 0.5) if overlaps else (last.ends_s + chance.uniform(*_GAP_S))
        fault = Fault(
            kind,
            round(at_s, 1),
            round(chance.uniform(*_DURATIONS_S[kind]), 1),
            chance.randrange(NODES),
            chance.randrange(1 << 16),
        )
        if fault.ends_s > end_s:
            return
        yield fault
        last = fault if last is None or fault.ends_s >= last.ends_s else last


def _dealt(chance: random.Random, kinds: Sequence[Kind]) -> Iterator[Kind]:
    """Yield kinds for ever: each comes once before one comes again."""
    while True:
        yield from chance.sample(kinds, len(kinds))


def _may_come_together(first: Kind, second: Kind) -> bool:
    """Return whether they may overlap: without the database, what only a killed node had cached is lost."""
    groups = [_group(first), _group(second)]
    return groups[0] != groups[1] and set(groups) != {"nodes", "database"}


def _group(kind: Kind) -> str:
    if kind in OF_DATABASE:
        return "database"
    return "nodes" if kind in _OF_NODES else "Redis"


def _data_faults(chance: random.Random, end_s: float) -> Iterator[Fault]:
    at_s = chance.uniform(*_CHANGE_EVERY_S)
    while at_s < end_s:
        kind = chance.choice(_DATA)
        yield Fault(kind, round(at_s, 1), choice=chance.randrange(1 << 16), event=chance.random() < 0.6)
        at_s += chance.uniform(*_CHANGE_EVERY_S)
