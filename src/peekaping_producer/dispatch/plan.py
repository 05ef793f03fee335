"""Decides on one order for each claimed monitor, by what was read about it (invariant 7). Pure."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from peekaping_producer.asynq.payload import build_task
from peekaping_producer.catalog.reading import Reading
from peekaping_producer.clock import from_unix_ms, rfc3339
from peekaping_producer.model.cadence import Spacing, cadence
from peekaping_producer.model.maintenance import under_maintenance
from peekaping_producer.observe.faults import described
from peekaping_producer.schedule.orders import Claim, Claimed, Enqueue, Order, Release, drop


class Plan(Struct, frozen=True):
    """The orders of one batch, and what is to be logged and counted."""

    orders: list[Order]
    invalid: dict[str, str]
    """Monitors skipped as invalid: id → reason."""
    broken_maintenances: dict[str, str]
    """Maintenances that can't be evaluated, and count as outside their window: id → reason."""
    gone: int
    """Claimed monitors that are deleted or inactive."""
    go_slots: int
    """Claimed monitors that were due at an exact multiple of their period, which only a Go producer writes."""
    faults: dict[str, Exception] = {}
    """Unexpected exceptions, by the monitors that raised them, which are skipped as invalid."""


def plan(
    claim: Claim,
    reading: Reading,
    server_zone: ZoneInfo,
    spacing: Spacing,
    *,
    release_ms: int,
    headers: Mapping[str, str] | None = None,
) -> Plan:
    """Give one order to each claimed monitor: a task if it is active, otherwise its removal from the schedule.

    A deferred monitor, of which nothing is known now, is due again after a delay (invariant 6). An invalid monitor
    leaves the schedule, and the next sweep brings it back. So does one that raises an unexpected exception: its batch
    is then planned again, one monitor at a time. Each task carries the `headers`.
    """
    with suppress(Exception):  # raised again below
        return _plan(claim, reading, server_zone, spacing, release_ms, headers)
    plans: list[Plan] = []
    for claimed in claim.claimed:
        try:
            plans.append(_plan(replace(claim, claimed=(claimed,)), reading, server_zone, spacing, release_ms, headers))
        except Exception as error:  # noqa: BLE001 - likewise
            plans.append(Plan([drop(claimed.id)], {str(claimed.id): described(error)}, {}, 0, 0, {claimed.id: error}))
    return _joined(plans)


def invalid_among(
    reading: Reading, now_ms: int, server_zone: ZoneInfo, spacing: Spacing = Spacing.SPREAD
) -> dict[str, str]:
    """Return those monitors of a reading that would be skipped as invalid at this instant, with the reasons."""
    claimed = tuple(Claimed(id_, now_ms) for id_ in (*reading.found, *reading.invalid))
    claim = Claim(now_ms, "", None, go_seen=False, claimed=claimed, answered_at_s=0)
    return plan(claim, reading, server_zone, spacing, release_ms=0).invalid


def _plan(
    claim: Claim,
    reading: Reading,
    server_zone: ZoneInfo,
    spacing: Spacing,
    release_ms: int,
    headers: Mapping[str, str] | None,
) -> Plan:
    now = from_unix_ms(claim.now_ms)
    scheduled_at = rfc3339(now)
    orders: list[Order] = []
    broken: dict[str, str] = {}
    gone = go_slots = 0
    for claimed in claim.claimed:
        if claimed.id in reading.deferred:
            orders.append(Release(claimed.id, release_ms))
            continue
        snapshot = reading.found.get(claimed.id)
        if snapshot is None or not snapshot.monitor.active:
            gone += claimed.id not in reading.invalid
            orders.append(drop(claimed.id))
            continue
        in_maintenance = False
        if snapshot.maintenances:
            verdict = under_maintenance(snapshot.maintenances, now, server_zone)
            in_maintenance = verdict.under_maintenance
            broken.update((one.maintenance_id, one.reason) for one in verdict.broken)
        message = build_task(snapshot, scheduled_at, under_maintenance=in_maintenance, headers=headers)
        own = cadence(claimed.id, snapshot.monitor.interval, spacing)
        go_slots += claimed.due_ms % own.period_ms == 0
        retry = reading.retries.get(claimed.id)
        grid = own.retrying(retry.seconds) if retry and retry.pending else own
        orders.append(Enqueue(claimed.id, grid, message, from_cache=reading.from_cache))
    invalid = (
        {str(one.id): reading.invalid[one.id] for one in claim.claimed if one.id in reading.invalid}
        if reading.invalid
        else {}
    )
    return Plan(orders, invalid, broken, gone, go_slots)


def _joined(plans: Sequence[Plan]) -> Plan:
    """Return the plans of some monitors as one."""
    whole = Plan([], {}, {}, 0, 0, {})
    for one in plans:
        whole.orders.extend(one.orders)
        for all_, some in ((whole.invalid, one.invalid), (whole.broken_maintenances, one.broken_maintenances)):
            all_.update(some)
        whole.faults.update(one.faults)
    return replace(whole, gone=sum(one.gone for one in plans), go_slots=sum(one.go_slots for one in plans))
