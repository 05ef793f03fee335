"""What the API server does: it creates, edits, deletes and switches monitors, with events and without."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import redis
from msgspec.structs import replace

from chaos.database import ChaosDatabase
from chaos.evidence import Life, Segment
from chaos.plan import NOTICED_WITHIN_MS, PERIODS_S, Fault, Kind
from peekaping_producer.demo.clock import now_ms
from peekaping_producer.leader.event_message import CREATED, DELETED, UPDATED
from support.api_events import row_message
from support.databases import Row, monitor_row

PUSH_EVERY: Final = 10
"""One in this many monitors is a push monitor."""
INACTIVE_EVERY: Final = 18
"""One in this many is switched off at first."""
HEARD_WITHIN_MS: Final = 3_000
"""How soon a change is noticed that an event reports."""


class _Monitor:
    """One monitor, and what became of it."""

    def __init__(self, row: Row, *, from_ms: int, expected_ms: int) -> None:
        self.row = row
        self.segments = [Segment(from_ms, expected_ms, row["interval"] * 1000)] if row["active"] else []
        self.edits: list[tuple[int, str]] = []
        self.deleted = False

    @property
    def active(self) -> bool:
        return bool(self.row["active"]) and not self.deleted

    def end_segment(self, at_ms: int) -> None:
        self.segments[-1] = replace(self.segments[-1], until_ms=at_ms)

    def life(self) -> Life:
        return Life(self.row["id"], self.row["type"] == "push", tuple(self.segments), tuple(self.edits))


class Editor:
    """All monitors, as they are in the database."""

    def __init__(self, database: ChaosDatabase, client: Callable[[], redis.Redis]) -> None:
        """Write to `database`, and publish events by a client that `client` makes."""
        self._database, self._client = database, client
        self._monitors: list[_Monitor] = []
        self._edited = 0
        self.longest_s = 0
        """The longest interval of all."""

    def fill(self, monitors: int, periods_s: tuple[int, ...] = PERIODS_S) -> None:
        """Create the monitors that a run begins with."""
        self.longest_s = max(periods_s)
        rows = [
            self._row(number, periods_s[number % len(periods_s)], active=number % INACTIVE_EVERY != 0)
            for number in range(monitors)
        ]
        self._database.run(self._database.rows.insert("monitors", *rows))
        self._monitors = [_Monitor(row, from_ms=0, expected_ms=0) for row in rows]

    @property
    def ids(self) -> set[str]:
        """The monitors that should be in the schedule."""
        return {monitor.row["id"] for monitor in self._monitors if monitor.active}

    def lives(self) -> tuple[Life, ...]:
        """Return what became of all."""
        return tuple(monitor.life() for monitor in self._monitors)

    def apply(self, fault: Fault) -> str:
        """Change a monitor; return which."""
        within_ms = HEARD_WITHIN_MS if fault.event else NOTICED_WITHIN_MS
        if fault.kind is Kind.CREATE:
            return self._create(fault, within_ms)
        off = fault.kind is Kind.SWITCH_ON
        found = [one for one in self._monitors if not one.deleted and one.active != off]
        if not found:
            return "no such monitor"
        monitor = found[fault.choice % len(found)]
        if fault.kind is Kind.DELETE:
            self._delete(monitor, fault)
        elif fault.kind is Kind.EDIT:
            self._edit(monitor, fault)
        else:
            self._reschedule(monitor, fault, within_ms)
        return str(monitor.row["id"])

    def _create(self, fault: Fault, within_ms: int) -> str:
        row = self._row(fault.choice, PERIODS_S[fault.choice % len(PERIODS_S)], created_at=datetime.now(UTC))
        row["updated_at"] = row["created_at"]
        from_ms = now_ms()
        self._database.run(self._database.rows.insert("monitors", row))
        self._monitors.append(_Monitor(row, from_ms=from_ms, expected_ms=now_ms() + within_ms))
        self._publish(fault, CREATED, "monitor.created", row)
        return str(row["id"])

    def _delete(self, monitor: _Monitor, fault: Fault) -> None:
        self._database.run(self._database.rows.delete("monitors", monitor.row["id"]))
        monitor.deleted = True
        monitor.end_segment(now_ms())
        self._publish(fault, DELETED, "monitor.deleted", monitor.row["id"])

    def _edit(self, monitor: _Monitor, fault: Fault) -> None:
        self._edited += 1
        self._update(monitor, name=f"Edit {self._edited}")
        monitor.edits.append((now_ms(), monitor.row["name"]))
        self._publish(fault, UPDATED, "monitor.updated", monitor.row)

    def _reschedule(self, monitor: _Monitor, fault: Fault, within_ms: int) -> None:
        """Switch it on or off, or give it another interval."""
        from_ms = now_ms()
        if fault.kind is Kind.CHANGE_INTERVAL:
            others = [period for period in PERIODS_S if period != monitor.row["interval"]]
            self._update(monitor, interval=others[fault.choice % len(others)])
        else:
            self._update(monitor, active=fault.kind is Kind.SWITCH_ON)
        done_ms = now_ms()
        if fault.kind is not Kind.SWITCH_ON:
            monitor.end_segment(from_ms if monitor.active else done_ms)
        if monitor.active:
            # The slot that was chosen for the old interval may still come.
            waits_ms = monitor.segments[-1].period_ms if fault.kind is Kind.CHANGE_INTERVAL else 0
            expected_ms = done_ms + within_ms + waits_ms
            monitor.segments.append(Segment(from_ms, expected_ms, monitor.row["interval"] * 1000))
        self._publish(fault, UPDATED, "monitor.updated", monitor.row)

    def _update(self, monitor: _Monitor, **values: object) -> None:
        values["updated_at"] = datetime.now(UTC)
        self._database.run(self._database.rows.update("monitors", monitor.row["id"], **values))
        monitor.row |= values

    def _publish(self, fault: Fault, channel: str, kind: str, row: Row | str) -> None:
        if fault.event:
            with self._client() as client:
                client.publish(channel, row_message(kind, row))

    def _row(self, number: int, period_s: int, **values: object) -> Row:
        kind = "push" if number % PUSH_EVERY == PUSH_EVERY - 1 else "http"
        return monitor_row(type=kind, interval=period_s, name="as created", **values)
