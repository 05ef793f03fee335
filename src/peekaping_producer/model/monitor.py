"""The values the producer works with: what the database holds about a monitor, frozen.

Rows become these in `catalog`, and nothing beyond it sees a row. The struct of a row describes it: the columns named
like its fields are read, and must hold its types. A new field is read from every database without further code.

The structs of rows are array-like, so that a whole batch of rows is converted in one step. None can be part of a cycle,
so the garbage collector tracks none.
"""

from datetime import datetime
from typing import Annotated, Final, NewType

from msgspec import Meta, Struct

MonitorId = NewType("MonitorId", str)
"""A monitor's id in its canonical form: a lower-case UUID, or an ObjectId's hex."""
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
"""What Peekaping's integer columns hold, and its workers read."""
Int32OrZero = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1, extra={"null": 0})]
"""Likewise; NULL reads as 0."""
TextOrEmpty = Annotated[str, Meta(extra={"null": ""})]
"""Text; NULL reads as empty."""
Interval = Annotated[int, Meta(gt=0, le=2**31 - 1)]
"""Seconds between checks; a row with another value gets no check (docs/protocol.md, section 1)."""


class Monitor(Struct, frozen=True, array_like=True, gc=False):
    """One row of `monitors` (docs/protocol.md, section 4), as far as a check needs it."""

    id: MonitorId
    name: str
    type: str
    interval: Interval
    timeout: Int32
    """Seconds a check may take. Values of 0 and less occur, and are passed on unchanged."""
    max_retries: Int32
    retry_interval: Int32
    """Seconds."""
    resend_interval: Int32
    active: bool
    config: TextOrEmpty
    """The column's own text, never parsed and written again."""
    proxy_id: str | None


class Proxy(Struct, frozen=True, array_like=True, gc=False):
    """One row of `proxies`."""

    id: str
    protocol: str
    host: str
    port: Int32
    auth: bool
    username: TextOrEmpty
    password: TextOrEmpty

    def __repr__(self) -> str:
        """Leave the credentials out: a repr may end in a log."""
        return f"Proxy(id={self.id!r})"


class Heartbeat(Struct, frozen=True, array_like=True, gc=False):
    """One row of `heartbeats`: the result of an earlier check (docs/protocol.md, section 2)."""

    id: str
    monitor_id: MonitorId
    status: Int32
    """0 down, 1 up, 2 pending, 3 maintenance."""
    msg: TextOrEmpty
    ping: Int32OrZero
    duration: Int32OrZero
    down_count: Int32OrZero
    retries: Int32OrZero
    important: bool
    time: datetime
    """Aware, UTC, to the microsecond."""
    end_time: datetime | None
    notified: bool


class Maintenance(Struct, frozen=True, array_like=True, gc=False):
    """One row of `maintenances`: a time window in which its monitors count as under maintenance."""

    id: str
    active: bool
    strategy: TextOrEmpty
    start_date_time: str | None
    """Local wall clock `YYYY-MM-DDTHH:MM` in `timezone`."""
    end_date_time: str | None
    start_time: str | None
    """`HH:MM` in `timezone`."""
    end_time: str | None
    interval_day: int | None
    cron: str | None
    timezone: str | None
    """IANA name, `SAME_AS_SERVER`, empty or unknown = UTC."""
    duration: int | None
    """Minutes."""


class Snapshot(Struct, frozen=True, gc=False):
    """All that the database held about one monitor at one reading: what a check is built from."""

    monitor: Monitor
    proxy: Proxy | None
    maintenances: tuple[Maintenance, ...]
    """Active ones only."""
    last_heartbeat: Heartbeat | None
    """The newest by `time`; read for monitors of type exactly `push` only."""


PENDING: Final = 2
"""The status of a monitor whose check failed, and whose `max_retries` are not used up."""


class Retry(Struct, frozen=True, gc=False):
    """The retry interval of a monitor, which is shorter than its interval."""

    seconds: int
    pending: bool
    """Whether the monitor's status is pending."""


class Schedulable(Struct, frozen=True, array_like=True, gc=False):
    """What the schedule needs to know of an active monitor: id and period, and when it was created and updated."""

    id: MonitorId
    interval: Interval
    created_at: datetime | None
    """Aware, UTC; None where the column is NULL or unreadable."""
    updated_at: datetime | None
    """Likewise. Moves with every edit, and with every change of the monitor's status."""
