"""From the rows of a batch, whichever database they come from, to a reading or a page."""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence

from peekaping_producer.catalog import rows
from peekaping_producer.catalog.limits import MOST_COUNTED
from peekaping_producer.catalog.reading import Counts, Page, Reading
from peekaping_producer.errors import CorruptRecord
from peekaping_producer.model.monitor import PENDING, Maintenance, Monitor, MonitorId, Retry, Schedulable, Snapshot

_MONITOR_ID = rows.MONITORS.at("id")
_SCHEDULABLE_ID = rows.SCHEDULABLES.at("id")
_MAINTENANCE_ID = rows.MAINTENANCE_COLUMNS.index("id")
_HEARTBEAT_OF = rows.HEARTBEATS.at("monitor_id")


_NO_RETRIES: dict[MonitorId, Retry] = {}


def page_of(
    fetched: Sequence[rows.Row], next_after: MonitorId | None, retries: dict[MonitorId, Retry] = _NO_RETRIES
) -> Page:
    """Return the page of these rows, in their order."""
    monitors: list[Schedulable] = []
    invalid: dict[str, str] = {}
    for row, value in zip(fetched, rows.values(rows.SCHEDULABLES, fetched), strict=True):
        if isinstance(value, CorruptRecord):
            invalid[str(row[_SCHEDULABLE_ID])] = value.reason
        else:
            monitors.append(value)
    return Page(tuple(monitors), invalid, next_after, retries)


def retries_of(fetched: Iterable[rows.Row]) -> dict[MonitorId, Retry]:
    """Return the retry intervals that are shorter than the interval, from rows of RETRY_COLUMNS.

    One that is not a whole number, or not above 0, counts as none.
    """
    return {
        id_: Retry(retry_s, status == PENDING)
        for id_, interval_s, retry_s, status in fetched
        if type(interval_s) is int and type(retry_s) is int and 0 < retry_s < interval_s
    }


def counts_of(monitors: int, active: int) -> Counts:
    """Return the counts; `monitors` is at most one more than MOST_COUNTED, which means that there are more."""
    more = monitors > MOST_COUNTED
    return Counts(min(monitors, MOST_COUNTED), min(active, MOST_COUNTED), more)


def monitors_of(
    fetched: Sequence[rows.Row], asked: Container[str], invalid: dict[MonitorId, str]
) -> dict[MonitorId, Monitor]:
    """Return the valid ones among the requested monitors; the others are added to `invalid`."""
    monitors: dict[MonitorId, Monitor] = {}
    # MySQL compares ids without case; one that is stored in another case is another id.
    fetched = [row for row in fetched if row[_MONITOR_ID] in asked]
    for row, value in zip(fetched, rows.values(rows.MONITORS, fetched), strict=True):
        if isinstance(value, CorruptRecord):
            invalid[row[_MONITOR_ID]] = value.reason
        else:
            monitors[value.id] = value
    return monitors


def maintenances_of(fetched: Sequence[tuple[MonitorId, rows.Row]]) -> dict[MonitorId, list[Maintenance]]:
    """Return maintenances by monitor, from pairs of a monitor's id and a row.

    A maintenance of many monitors becomes one value.
    """
    distinct = {row[_MAINTENANCE_ID]: row for _, row in fetched}
    values = dict(zip(distinct, rows.maintenances(list(distinct.values())), strict=True))
    by_monitor: defaultdict[MonitorId, list[Maintenance]] = defaultdict(list)
    for monitor_id, row in fetched:
        by_monitor[monitor_id].append(values[row[_MAINTENANCE_ID]])
    return by_monitor


def reading_of(
    monitors: dict[MonitorId, Monitor],
    proxy_rows: Mapping[str, rows.Row],
    maintenances: dict[MonitorId, list[Maintenance]],
    heartbeat_rows: Sequence[rows.Row],
    invalid: dict[MonitorId, str],
    retries: dict[MonitorId, Retry] = _NO_RETRIES,
) -> Reading:
    """Join what belongs together; a monitor whose proxy or heartbeat is invalid is added to `invalid`.

    The rows of proxies are keyed by the monitors' references to them.
    """
    proxies = dict(zip(proxy_rows, rows.values(rows.PROXIES, list(proxy_rows.values())), strict=True))
    heartbeats = dict(
        zip((row[_HEARTBEAT_OF] for row in heartbeat_rows), rows.values(rows.HEARTBEATS, heartbeat_rows), strict=True)
    )
    found: dict[MonitorId, Snapshot] = {}
    for id_, monitor in monitors.items():
        proxy = proxies.get(monitor.proxy_id) if monitor.proxy_id else None
        heartbeat = heartbeats.get(id_)
        if isinstance(proxy, CorruptRecord):
            invalid[id_] = proxy.reason
        elif isinstance(heartbeat, CorruptRecord):
            invalid[id_] = heartbeat.reason
        else:
            found[id_] = Snapshot(monitor, proxy, tuple(maintenances.get(id_, ())), heartbeat)
    return Reading(found, invalid, retries=retries)
