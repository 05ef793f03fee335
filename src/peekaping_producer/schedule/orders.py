"""The values of the schedule: claims, orders and what became of them, and entries that a leader brings in."""

from typing import Literal, get_args

from msgspec import Struct

from peekaping_producer.asynq.payload import stale_task
from peekaping_producer.model.cadence import Cadence
from peekaping_producer.model.ids import is_monitor_id
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.schedule.pause import Pause
from peekaping_producer.schedule.redis_clock import Step


class Claimed(Struct, frozen=True):
    """One claimed monitor, and when it was due (Unix ms)."""

    id: MonitorId
    due_ms: float


class Claim(Struct, frozen=True):
    """What one claim took: a batch under one fencing token. Empty if nothing was due."""

    now_ms: int
    """Redis' clock at the claim, Unix ms."""
    token: str
    next_due_ms: float | None
    """When the next monitor is due, of those not claimed."""
    go_seen: bool
    """Whether any node has noticed a Go producer recently."""
    claimed: tuple[Claimed, ...]
    answered_at_s: float
    """This host's monotonic clock at the reply, from which the lease counts."""
    step: Step | None = None
    """A step of Redis' clock since this node's last claim."""
    behind_ms: int = 0
    """The size of a step forward that still counts: what is overdue by more was due before the clock was stepped."""

    pause: Pause | None = None
    """While there is one, nothing is claimed."""
    drained_ms: int = 0
    """Redis' clock at an earlier claim that left nothing overdue: what had been due by then was in an expired claim."""

    def lateness_ms(self, at_ms: float) -> list[float]:
        """Return how long after each due time an instant is, without a step of the clock between the two."""
        behind_ms = self.behind_ms
        lateness_ms = [at_ms - one.due_ms for one in self.claimed]
        if behind_ms:
            return [late_ms - behind_ms if late_ms >= behind_ms else late_ms for late_ms in lateness_ms]
        return lateness_ms


class Peeked(Struct, frozen=True):
    """A page of what is due, read without claiming it."""

    now_ms: int
    next_due_ms: float | None
    """When a node that serves from its cache may claim what comes behind the page."""
    go_seen: bool
    due: tuple[Claimed, ...]
    answered_at_s: float
    step: Step | None
    behind_ms: int
    pause: Pause | None = None
    """`behind_ms` and `pause` are as in a claim."""


class Enqueue(Struct, frozen=True):
    """Order: put the check's task into the queue, and the monitor's next slot into due."""

    id: MonitorId
    cadence: Cadence
    message: bytes
    from_cache: bool = False
    """Its row was read earlier: no task if the monitor has been removed since (invariant 12)."""


class Release(Struct, frozen=True):
    """Order: no check now, due again after `delay_ms`."""

    id: MonitorId
    delay_ms: int


class Drop(Struct, frozen=True):
    """Order: take it out of the schedule, with its pending task, or with `stale_message` in it if the list is long."""

    id: MonitorId
    stale_message: bytes


Order = Enqueue | Release | Drop


def drop(id_: MonitorId) -> Drop:
    """Return the order that takes a monitor out of the schedule."""
    # An invalid id may not be valid UTF-8, so no message can be built.
    return Drop(id_, stale_task(id_) if is_monitor_id(id_) else b"")


class Settlement(Struct, frozen=True):
    """The outcomes of one settle, in the order of its orders."""

    now_ms: int
    """Redis' clock at the settle, Unix ms: when its tasks were put into the queue."""
    outcomes: tuple[Outcome, ...]
    failures: dict[MonitorId, str]
    """Redis' reason for each that FAILED."""


class Entry(Struct, frozen=True):
    """A monitor that belongs in the schedule."""

    id: MonitorId
    cadence: Cadence
    at_once: bool = False
    """Due at once if it is in neither set, instead of at its next slot."""
    edited: bool = False
    """A person has changed its row: a claim that may have read the row before that is revoked."""
    period_changed: bool = False
    """Its period is known to have changed: a slot of the old grid may be one of the new grid, too."""
    retry_ms: int | None = None
    """The period of its retry grid, while it is not retrying: a due time that is only on that grid is then wrong."""


Placement = Literal["added", "moved", "revoked", "kept"]

PLACEMENTS: tuple[Placement, ...] = get_args(Placement)

Cursor = tuple[str, int]
"""A place in the schedule: a set's key, and Redis' cursor in it."""


class WrongKey(Struct, frozen=True):
    """A key that held the wrong type."""

    key: str
    found: str
    """The type it held, by the name that TYPE returns."""
    renamed_to: str
    """Empty if it is asynq's, which is not ours to rename."""
