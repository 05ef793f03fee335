"""What a run has shown, as the judge reads it. All instants are Unix milliseconds of this host's clock."""

from typing import Final

from msgspec import Struct

from chaos.plan import Kind

HOUR_MS: Final = 3_600_000
NEVER_MS: Final = 1 << 62


class Check(Struct, frozen=True):
    """One task that the worker took."""

    monitor_id: str
    name: str
    """Which edit of its monitor the task was built from."""
    scheduled_ms: int
    """When it was claimed. Redis' clock may be hours ahead; see `on_this_clock`."""
    started_ms: int
    """When the worker took it."""
    stale: bool = False
    """Whether a worker of Peekaping's would have dropped it, as it is older than 1.5 intervals."""


def on_this_clock(scheduled_ms: int, started_ms: int) -> int:
    """Return an instant of Redis' clock, which is some whole hours off, as one of this host's."""
    return scheduled_ms - round((scheduled_ms - started_ms) / HOUR_MS) * HOUR_MS


class Segment(Struct, frozen=True):
    """A time in which a monitor was active, with one interval."""

    from_ms: int
    expected_ms: int
    """From when on its checks are expected: an edit takes some time to be noticed."""
    period_ms: int
    until_ms: int = NEVER_MS


class Life(Struct, frozen=True):
    """What the API server did with one monitor."""

    monitor_id: str
    push: bool
    segments: tuple[Segment, ...]
    edits: tuple[tuple[int, str], ...]
    """When it was edited, and its name from then on."""


class Incident(Struct, frozen=True):
    """A fault as it happened."""

    kind: Kind
    began_ms: int
    ended_ms: int
    """When what was broken worked again."""
    note: str = ""


class Span(Struct, frozen=True):
    """A time during which something was true of one monitor."""

    monitor_id: str
    from_ms: int
    until_ms: int


class Stall(Struct, frozen=True):
    """A time in which this machine did not let the program run, and perhaps not the nodes."""

    at_ms: int
    lasted_ms: int


class Evidence(Struct, frozen=True):
    """All of it."""

    began_ms: int
    ended_ms: int
    checks: tuple[Check, ...]
    lives: tuple[Life, ...]
    incidents: tuple[Incident, ...]
    claimed: tuple[Span, ...] = ()
    """When monitors were claimed for longer than a claim takes."""
    active: tuple[Span, ...] = ()
    """When asynq had their tasks as active, with a lease that had not expired."""
    stalls: tuple[Stall, ...] = ()
    problems: tuple[str, ...] = ()
    """Errors that nodes did not expect, ends that nobody asked for, tasks that the worker could not read."""
