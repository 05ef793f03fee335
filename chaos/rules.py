"""What each kind of fault may cause: the limits that a run must meet."""

from enum import StrEnum
from typing import Final

from msgspec import Struct

from chaos.plan import OF_DATABASE, Kind


class Reason(StrEnum):
    """Why a slot passed without a check."""

    REDIS = "Redis was gone"
    NODES = "all nodes were gone"
    CLAIM = "a node that was killed, frozen or cut off had claimed it"
    PUSH = "a push monitor, without the database"
    NOT_CACHED = "without the database, and the node that had read it was gone"
    OLD_INTERVAL = "without the database, its last check used the interval from before an edit"
    RUNNING = "asynq had its earlier task as active"
    MACHINE = "this machine stalled"
    NONE = "no reason"


class Rule(Struct, frozen=True):
    """What one kind of fault may cause."""

    reason: Reason | None = None
    """Why checks may be missed; None: none may be."""
    recovers_ms: int | None = None
    """How long afterwards its last trace may be seen; None: as long as it takes."""
    from_its_beginning: bool = False
    """Whether that counts from the beginning of the fault, not from its end."""
    loses_data: bool = False
    """Whether Redis lost what it knew: a check that was made may then be made again."""


NODE_MS: Final = 8_000
REDIS_MS: Final = 5_000
CLAIM_MS: Final = 7_000
"""A claim of a node that died lasts no longer than its lease of 5 s and 2 s more."""
DATABASE_MS: Final = 5_000
"""How long after an outage of the database push monitors may still be late."""

_REDIS: Final = Rule(Reason.REDIS, REDIS_MS)
_LOSS: Final = Rule(Reason.REDIS, REDIS_MS, loses_data=True)
RULES: Final[dict[Kind, Rule]] = {
    Kind.KILL: Rule(Reason.CLAIM, NODE_MS, from_its_beginning=True),
    Kind.FREEZE: Rule(Reason.CLAIM, NODE_MS, from_its_beginning=True),
    Kind.CUT_FROM_REDIS: Rule(Reason.CLAIM, NODE_MS),
    Kind.HANG_FROM_REDIS: Rule(Reason.CLAIM, NODE_MS),
    Kind.KILL_ALL: Rule(Reason.NODES, NODE_MS),
    Kind.CUT_ALL_FROM_REDIS: _REDIS,
    Kind.HANG_ALL_FROM_REDIS: _REDIS,
    Kind.REDIS_KILLED: _REDIS,
    Kind.MEMORY_FULL: _REDIS,
    Kind.FLUSHED: _LOSS,
    Kind.RESTORED: _LOSS,
    Kind.FAILED_OVER: _LOSS,
    Kind.CLOCK_STEPPED: Rule(recovers_ms=REDIS_MS),
    **dict.fromkeys(OF_DATABASE, Rule(Reason.PUSH)),
}
_NOTHING: Final = Rule()


def rule_of(kind: Kind) -> Rule:
    """Return what a kind of fault may cause; most may cause nothing."""
    return RULES.get(kind, _NOTHING)


def delays_changes(kind: Kind) -> bool:
    """Return whether a fault may keep the leader from noticing changes, or lose their events."""
    return kind in RULES or kind is Kind.TERMINATE
