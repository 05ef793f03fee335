"""The last known good copy: what checks are built from while the database is away, bounded by bytes."""

import math
import sys
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.msgpack import Decoder, Encoder
from msgspec.structs import astuple

from peekaping_producer.catalog.reading import Reading
from peekaping_producer.monitor import Maintenance, Monitor, MonitorId, Proxy, Snapshot

RECENT_PERIODS = 5
RECENT_S = 300.0
"""A copy counts as recent when it was read within so many periods of its monitor, or within this."""
MB = 1 << 20
NOT_KNOWN = "database_unavailable"
"""Why a monitor without a recent copy is put off."""
PUSH = "put_off_push"
"""Why a push monitor is: its verdict needs the newest heartbeat, which no copy has."""

_OBJECTS_BYTES = 33 + 49 + 2 * 16
"""What an entry's bytes and its id take beside their characters: two headers, and the rounding of the allocator."""
_ID_BYTES = 49 + 36 + 11
_READS_END_WITHIN_S = 60.0
_IS_PUSH = b""
_encode_into = Encoder().encode_into
_decode = Decoder().decode


class LastKnown:
    """Active monitors as this node read them last. Past the bound, those whose last reading is oldest leave first.

    Encoded, because that takes half the memory of the values, can be measured, and costs the garbage collector
    nothing.
    """

    def __init__(self, most_bytes: int) -> None:
        """Begin empty; 0 bytes keep it so."""
        self._most_bytes = most_bytes
        self._entries: OrderedDict[MonitorId, bytes] = OrderedDict()
        self._entries_bytes = 0
        self._forgotten_s: OrderedDict[MonitorId, float] = OrderedDict()

    def __len__(self) -> int:
        """Return how many monitors it holds."""
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Return the memory that it takes."""
        forgotten_bytes = sys.getsizeof(self._forgotten_s) + len(self._forgotten_s) * _ID_BYTES
        return self._entries_bytes + sys.getsizeof(self._entries) + forgotten_bytes

    def keep(self, ids: Iterable[MonitorId], reading: Reading, at_s: float) -> None:
        """Take over a reading of `ids` that began at `at_s`; what is gone, inactive or set aside in it is forgotten."""
        if not self._most_bytes:
            return
        for id_ in ids:
            entry = _entry(reading.found.get(id_), at_s)
            self._put(id_, None if self.forgotten_since(id_, at_s) else entry)
        while self.size_bytes > self._most_bytes and self._entries:
            oldest = next(iter(self._entries))
            self._put(oldest, None)

    def forget(self, ids: Iterable[MonitorId], at_s: float) -> None:
        """Forget monitors that were removed at `at_s`; a reading that began before does not bring them back."""
        while self._forgotten_s and next(iter(self._forgotten_s.values())) < at_s - _READS_END_WITHIN_S:
            self._forgotten_s.popitem(last=False)
        for id_ in ids:
            self._forgotten_s[id_] = at_s
            self._forgotten_s.move_to_end(id_)
            self._put(id_, None)

    def forgotten_since(self, id_: MonitorId, at_s: float) -> bool:
        """Tell whether a monitor was removed at `at_s` or later: a reading that began then is older than that."""
        return self._forgotten_s.get(id_, -math.inf) >= at_s

    def read(self, ids: Sequence[MonitorId], since_s: float, now_s: float) -> Reading:
        """Answer for a database that is away since `since_s`: by what was read shortly before, else by a reason."""
        found: dict[MonitorId, Snapshot] = {}
        put_off: dict[MonitorId, str] = {}
        oldest_s = now_s
        for id_ in ids:
            entry = self._entries.get(id_)
            if entry == _IS_PUSH:
                put_off[id_] = PUSH
                continue
            read_s, snapshot = _known(id_, entry) if entry else (-math.inf, None)
            if snapshot and since_s - read_s <= max(RECENT_S, RECENT_PERIODS * snapshot.monitor.interval):
                found[id_] = snapshot
                oldest_s = min(oldest_s, read_s)
            else:
                put_off[id_] = NOT_KNOWN
        return Reading(found, {}, put_off, from_copy=True, age_s=now_s - oldest_s)

    def interval_s(self, id_: MonitorId) -> int | None:
        """Return the interval that a monitor had when it was read last; None where that is not known."""
        entry = self._entries.get(id_)
        return _known(id_, entry)[1].monitor.interval if entry else None

    def _put(self, id_: MonitorId, entry: bytes | None) -> None:
        """Replace the entry of a monitor, as the newest one; None removes it."""
        before = self._entries.pop(id_, None)
        if before is not None:
            self._entries_bytes -= len(before) + len(id_) + _OBJECTS_BYTES
        if entry is not None:
            self._entries[id_] = entry
            self._entries_bytes += len(entry) + len(id_) + _OBJECTS_BYTES


def _entry(snapshot: Snapshot | None, at_s: float) -> bytes | None:
    """Return what is kept of a monitor: nothing of one that gets no check, or of texts that are not UTF-8."""
    if snapshot is None or not snapshot.monitor.active:
        return None
    if snapshot.monitor.type == "push":
        return _IS_PUSH
    proxy = astuple(snapshot.proxy) if snapshot.proxy else None
    maintenances = [astuple(one) for one in snapshot.maintenances]
    encoded = bytearray()
    try:
        _encode_into((at_s, astuple(snapshot.monitor)[1:], proxy, maintenances), encoded)
    except (ValueError, OverflowError):
        return None
    # Encoder.encode gives bytes that keep the room they were written in.
    return bytes(encoded)


def _known(id_: MonitorId, entry: bytes) -> tuple[float, Snapshot]:
    """Return when a monitor was read, and what."""
    at_s: float
    monitor: list[Any]
    proxy: list[Any] | None
    maintenances: list[list[Any]]
    at_s, monitor, proxy, maintenances = _decode(entry)
    return at_s, Snapshot(
        Monitor(id_, *monitor),
        Proxy(*proxy) if proxy else None,
        tuple([Maintenance(*one) for one in maintenances]),
        None,
    )
