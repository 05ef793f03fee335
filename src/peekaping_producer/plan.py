"""From what was claimed and what the database holds to one order for each monitor. Pure."""

from collections.abc import Mapping
from zoneinfo import ZoneInfo

from msgspec import Struct

from peekaping_producer.cadence import Spacing, cadence
from peekaping_producer.catalog.reading import Reading, is_monitor_id
from peekaping_producer.check import build_task, stale_task
from peekaping_producer.clock import from_unix_ms, rfc3339
from peekaping_producer.maintenance import under_maintenance
from peekaping_producer.monitor import MonitorId
from peekaping_producer.schedule.store import Claim, Drop, Enqueue, Order, Release


class Plan(Struct, frozen=True):
    """The orders of one batch, and what is to be told of it."""

    orders: list[Order]
    aside: dict[str, str]
    """Monitors set aside: id → reason."""
    broken_maintenances: dict[str, str]
    """Maintenances that can't be judged, and count as not in their window: id → reason."""
    gone: int
    """Claimed monitors that have no row, or an inactive one."""
    go_slots: int
    """Claimed monitors that were due at an exact multiple of their period, as only a Go producer writes it."""


def plan(
    claim: Claim, reading: Reading, server_zone: ZoneInfo, spacing: Spacing, *, delays_ms: Mapping[MonitorId, int]
) -> Plan:
    """Give one order to each claimed monitor: a task for an active one, out of the schedule for any other.

    One of which nothing is known now is due again after its delay.
    A monitor set aside leaves the schedule; the sweep brings it back, and so looks at it again.
    """
    now = from_unix_ms(claim.now_ms)
    scheduled_at = rfc3339(now)
    orders: list[Order] = []
    broken: dict[str, str] = {}
    gone = go_slots = 0
    for claimed in claim.claimed:
        if claimed.id in reading.put_off:
            orders.append(Release(claimed.id, delays_ms[claimed.id]))
            continue
        snapshot = reading.found.get(claimed.id)
        if snapshot is None or not snapshot.monitor.active:
            gone += claimed.id not in reading.aside
            # An id that is none may be no text at all, and then nothing can be written of it.
            orders.append(Drop(claimed.id, stale_task(claimed.id) if is_monitor_id(claimed.id) else b""))
            continue
        in_maintenance = False
        if snapshot.maintenances:
            verdict = under_maintenance(snapshot.maintenances, now, server_zone)
            in_maintenance = verdict.under_maintenance
            broken.update((one.maintenance_id, one.reason) for one in verdict.broken)
        message = build_task(snapshot, scheduled_at, under_maintenance=in_maintenance)
        own = cadence(claimed.id, snapshot.monitor.interval, spacing)
        go_slots += claimed.due_ms % own.period_ms == 0
        orders.append(Enqueue(claimed.id, own, message, from_copy=reading.from_copy))
    aside = {str(id_): reason for id_, reason in reading.aside.items()}
    return Plan(orders, aside, broken, gone, go_slots)
