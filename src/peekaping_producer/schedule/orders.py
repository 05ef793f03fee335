"""The values of the schedule: claims, orders, their outcomes, and what a reader may ask for."""

from typing import Literal, get_args

from msgspec import Struct

from peekaping_producer.model.cadence import Cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.schedule.redis_clock import Step


class Claimed(Struct, frozen=True):
    """One claimed monitor, and the instant it was due at (Unix ms)."""

    id: MonitorId
    due_ms: float


class Claim(Struct, frozen=True):
    """What one claim took: a batch under one fencing token. Empty when nothing was due."""

    now_ms: int
    """Redis' clock at the claim, Unix ms."""
    token: str
    next_due_ms: float | None
    """When the next monitor is due, of those not claimed."""
    go_seen: bool
    """Whether a Go producer has been noticed of late, by any node."""
    claimed: tuple[Claimed, ...]
    answered_at_s: float
    """This host's monotonic clock at the reply: from here on the lease runs out."""
    step: Step | None = None
    """A step of Redis' clock since the last claim of this node."""
    behind_ms: int = 0
    """After a step forward of so much: what was due longer ago than this was due by the clock as it was before."""

    def lateness_ms(self, claimed: Claimed, at_ms: float) -> float:
        """Return how long after its due time an instant is, a step of the clock between the two left out."""
        late_ms = at_ms - claimed.due_ms
        return late_ms - self.behind_ms if late_ms >= self.behind_ms else late_ms


class Peeked(Struct, frozen=True):
    """A page of what is due, as it was read without claiming it."""

    now_ms: int
    next_due_ms: float | None
    """When a node that serves from its cache may claim what comes behind the page."""
    go_seen: bool
    due: tuple[Claimed, ...]
    answered_at_s: float
    step: Step | None
    behind_ms: int
    """As of a claim."""


class Enqueue(Struct, frozen=True):
    """Order: put the check's task in place and the monitor's next slot into due."""

    id: MonitorId
    cadence: Cadence
    message: bytes
    from_cache: bool = False
    """Its row was read earlier: no task if the monitor has been removed since."""


class Release(Struct, frozen=True):
    """Order: no check now; due again after `delay_ms`."""

    id: MonitorId
    delay_ms: int


class Drop(Struct, frozen=True):
    """Order: out of the schedule, with its pending task (`stale_message` takes its place in a very long list)."""

    id: MonitorId
    stale_message: bytes


Order = Enqueue | Release | Drop


class Settlement(Struct, frozen=True):
    """The outcomes of one settle, in the order of its orders."""

    now_ms: int
    """Redis' clock at the settle, Unix ms: from here on what was placed is in the queue."""
    outcomes: tuple[Outcome, ...]
    failures: dict[MonitorId, str]
    """Redis' reason for each FAILED one."""


class Entry(Struct, frozen=True):
    """A monitor that belongs into the schedule."""

    id: MonitorId
    cadence: Cadence
    at_once: bool = False
    """Due at once where it is in neither set, instead of at its next slot."""
    edited: bool = False
    """A person has changed its row: a claim that may have read it before is revoked."""
    period_changed: bool = False
    """Its period too, as is known: its due time may be a slot of the old grid and of the new."""


Placement = Literal["added", "moved", "revoked", "kept"]

PLACEMENTS: tuple[Placement, ...] = get_args(Placement)

Cursor = tuple[str, int]
"""A place in the schedule: a set's key, and Redis' cursor in it."""


class Overview(Struct, frozen=True):
    """The schedule at a glance."""

    due: int
    """Monitors waiting for their slot, or overdue."""
    leased: int
    oldest_due_ms: int | None
    """How long the longest overdue monitor has been due; 0 when none is overdue, None when none is scheduled."""


class Late(Struct, frozen=True):
    """The monitors that are overdue: due and not claimed, or claimed by a node that died."""

    count: int
    """Of those overdue for longer than was asked for."""
    oldest_ms: float | None
    """When the longest overdue one was due, Unix ms; None when none is overdue."""
    first: list[Claimed]
    """The first of those that are counted."""


class Place(Struct, frozen=True):
    """Where one monitor stands in the schedule, and who leads."""

    now_ms: int
    due_ms: float | None
    lease_ms: float | None
    """When the claim on it ends; None where nobody has claimed it."""
    leader: str | None
    go_seen: bool
    """Whether a Go producer has been noticed of late."""


class WrongKey(Struct, frozen=True):
    """A key that held another type than it should."""

    key: str
    found: str
    """The type it held, as TYPE calls it."""
    renamed_to: str
    """Empty where it is asynq's, and so not ours to rename."""
