"""From the rows of a batch, whichever database they come from, to a reading or a page."""

from collections import defaultdict
from collections.abc import Container, Iterable

from peekaping_producer.catalog import rows
from peekaping_producer.catalog.reading import Page, Reading
from peekaping_producer.errors import CorruptRecord
from peekaping_producer.monitor import Heartbeat, Maintenance, Monitor, MonitorId, Proxy, Schedulable, Snapshot


def page_of(fetched: Iterable[rows.Row], next_after: MonitorId | None) -> Page:
    """Return the page of these rows, in their order; what is nonsense in them is set aside."""
    monitors: list[Schedulable] = []
    aside: dict[str, str] = {}
    for row in fetched:
        try:
            monitors.append(rows.schedulable(row))
        except CorruptRecord as error:
            aside[str(row[0])] = error.reason
    return Page(tuple(monitors), aside, next_after)


def monitors_of(
    fetched: Iterable[rows.Row], asked: Container[str], aside: dict[MonitorId, str]
) -> dict[MonitorId, Monitor]:
    """Return the sound ones among the asked-for monitors; the others go to `aside`."""
    monitors: dict[MonitorId, Monitor] = {}
    for row in fetched:
        if row[0] not in asked:
            # MySQL compares ids without case; what is stored in another case is another id.
            continue
        try:
            monitors[row[0]] = rows.monitor(row)
        except CorruptRecord as error:
            aside[row[0]] = error.reason
    return monitors


def maintenances_of(fetched: Iterable[rows.Row]) -> dict[MonitorId, list[Maintenance]]:
    """Group by monitor; a maintenance of many monitors becomes one value."""
    values: dict[str, Maintenance] = {}
    by_monitor: defaultdict[MonitorId, list[Maintenance]] = defaultdict(list)
    for monitor_id, *row in fetched:
        if row[0] not in values:
            values[row[0]] = rows.maintenance(row)
        by_monitor[monitor_id].append(values[row[0]])
    return by_monitor


def reading_of(
    monitors: dict[MonitorId, Monitor],
    proxy_rows: Iterable[rows.Row],
    maintenances: dict[MonitorId, list[Maintenance]],
    heartbeat_rows: Iterable[rows.Row],
    aside: dict[MonitorId, str],
) -> Reading:
    """Join what belongs together; a monitor whose proxy or heartbeat is nonsense goes to `aside`."""
    proxies: dict[str, Proxy | str] = {}
    for row in proxy_rows:
        try:
            proxies[row[0]] = rows.proxy(row)
        except CorruptRecord as error:
            proxies[row[0]] = error.reason
    heartbeats: dict[MonitorId, Heartbeat | str] = {}
    for row in heartbeat_rows:
        try:
            heartbeats[row[1]] = rows.heartbeat(row)
        except CorruptRecord as error:
            heartbeats[row[1]] = error.reason

    found: dict[MonitorId, Snapshot] = {}
    for id_, monitor in monitors.items():
        proxy = proxies.get(monitor.proxy_id) if monitor.proxy_id else None
        heartbeat = heartbeats.get(id_)
        if isinstance(proxy, str):
            aside[id_] = proxy
        elif isinstance(heartbeat, str):
            aside[id_] = heartbeat
        else:
            found[id_] = Snapshot(monitor, proxy, tuple(maintenances.get(id_, ())), heartbeat)
    return Reading(found, aside)
