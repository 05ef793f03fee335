"""The cache of last known good monitors: checks are built from it while the database is unavailable (invariant 12)."""

import asyncio
import math
import struct
import sys
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from msgspec.msgpack import Decoder, Encoder
from msgspec.structs import astuple

from peekaping_producer.catalog.reading import Named, Reading
from peekaping_producer.model.monitor import Maintenance, Monitor, MonitorId, Proxy, Snapshot
from peekaping_producer.observe.outcomes import Outcome

RECENT_PERIODS = 5
RECENT_S = 300.0
"""An entry is recent if it was read within this many periods of its monitor, or within this many seconds."""
MB = 1 << 20

_NOT_CACHED, _PUSH = Outcome.DEFERRED_NOT_CACHED, Outcome.DEFERRED_PUSH
_OBJECTS_BYTES = 33 + 49 + 16
"""Of an entry and its id, apart from their characters: two headers, and the allocator's rounding."""
_ID_BYTES = 49 + 36 + 11
"""Of the id of a removed monitor, with the rounding."""
_TABLE_BYTES = 48
"""The most that a dict takes for an entry: just after it has grown."""
_FULL_TABLE_BYTES = 24
"""A little more than a dict takes for an entry just before it grows."""
_LEAST_BYTES = 36 + _OBJECTS_BYTES
"""Of an empty entry."""
_ASSUMED_BYTES = 400
"""Of an entry, until there are some to average."""
_FILLED = 0.97
"""The share of the memory limit that a sample aims to fill; not all of it, since the sizes of entries differ."""
_RESAMPLE = 0.1
"""The sample is chosen again when the number of monitors has changed by this share."""
_ENOUGH_TO_AVERAGE = 1_000
_ALL = 1 << 20
_READS_END_WITHIN_S = 60.0
"""A removal is remembered for this long: no read that began before it takes longer."""
_HEADER = struct.Struct("<dI")
"""Of an entry: when its read began, and the monitor's interval, both available without decoding the rest."""
_header_of = _HEADER.unpack_from
_IS_PUSH = b""
"""The entry of a push monitor: it only says that this is one."""
_ID = Monitor.__struct_fields__.index("id")
"""An entry omits the id, which is its key."""
_encode_into = Encoder().encode_into
_decode = Decoder().decode


class LastKnown:
    """The cache: active monitors as this node last read them, within a memory limit.

    A full cache updates its entries and admits no new ones. If it cannot hold all monitors, it holds a sample by hash,
    so that checks served from the cache are spread evenly in time. Each process samples differently, so several nodes
    together hold more.

    Entries are encoded: that takes half the memory of the values, can be measured, and costs the garbage collector
    nothing.
    """

    def __init__(self, most_bytes: int) -> None:
        """Start empty; with 0 bytes, it stays empty."""
        self._most_bytes = most_bytes
        self._entries: dict[MonitorId, bytes] = {}
        self._entries_bytes = 0
        self._forgotten_s: OrderedDict[MonitorId, float] = OrderedDict()
        self._expected = 0
        self._sampled_of = 0
        self._sample = _ALL
        """Of the 2^20 values of a monitor's hash, those below this are in the sample."""
        self._refused = False

    def __len__(self) -> int:
        """Return the number of monitors in it."""
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Return the memory that it takes."""
        return self._entries_bytes + sys.getsizeof(self._entries) + self._forgotten_bytes()

    @property
    def too_small(self) -> bool:
        """Return whether it lacks room for some monitors; never if it is switched off."""
        return self._most_bytes > 0 and (self._refused or self._sample < _ALL)

    def needed_mb(self, monitors: int) -> int:
        """Return how many megabytes would hold this many monitors of the current average size."""
        return math.ceil(monitors * self._average_bytes() / (MB * _FILLED))

    def expect(self, monitors: int) -> None:
        """Note how many monitors exist; if they do not fit, keep a sample of them from now on."""
        self._expected = monitors
        changed = abs(monitors - self._sampled_of) > self._sampled_of * _RESAMPLE
        if changed and (self._refused or len(self._entries) >= min(_ENOUGH_TO_AVERAGE, monitors)):
            self._sampled_of = monitors
            share = self._most_bytes * _FILLED / (max(1, monitors) * self._average_bytes())
            self._sample = min(_ALL, int(_ALL * share))
            self._refused = False

    def keep(self, ids: Collection[MonitorId], reading: Reading, at_s: float) -> None:
        """Store a reading of `ids` that began at `at_s`; one that is gone, inactive or invalid in it is removed."""
        if not self._most_bytes:
            return
        table_bytes = sys.getsizeof(self._entries)
        free_bytes = self._most_bytes - self._entries_bytes - self._forgotten_bytes()
        for id_ in ids:
            snapshot = reading.found.get(id_)
            before = self._entries.get(id_)
            if before is None:
                table_bytes = sys.getsizeof(self._entries)
                if len(self._entries) * _FULL_TABLE_BYTES > table_bytes:
                    table_bytes *= 2  # the dict may grow by doubling
            room_bytes = free_bytes - table_bytes
            if (self._forgotten_s and self.forgotten_since(id_, at_s)) or (hash(id_) >> 32) % _ALL >= self._sample:
                free_bytes += self._remove(id_)
            elif before is None and room_bytes < _LEAST_BYTES:
                self._refused |= snapshot is not None and snapshot.monitor.active
            elif (entry := _entry(snapshot, at_s)) is None:
                free_bytes += self._remove(id_)
            else:
                more_bytes = len(entry) - (-len(id_) - _OBJECTS_BYTES if before is None else len(before))
                if more_bytes <= room_bytes:
                    self._entries[id_] = entry
                    self._entries_bytes += more_bytes
                    free_bytes -= more_bytes
                else:
                    self._refused = True
                    free_bytes += self._remove(id_)
        if not self._sampled_of and self._expected and (self._refused or len(self._entries) >= _ENOUGH_TO_AVERAGE):
            self.expect(self._expected)

    def forget(self, ids: Iterable[MonitorId], at_s: float) -> None:
        """Remove monitors that left the schedule at `at_s`; an earlier reading cannot restore them."""
        while self._forgotten_s and next(iter(self._forgotten_s.values())) < at_s - _READS_END_WITHIN_S:
            self._forgotten_s.popitem(last=False)
        for id_ in ids:
            self._forgotten_s[id_] = at_s
            self._forgotten_s.move_to_end(id_)
            self._remove(id_)

    def forgotten_since(self, id_: MonitorId, at_s: float) -> bool:
        """Return whether a monitor was removed at `at_s` or later, so that a reading that began then is outdated."""
        return self._forgotten_s.get(id_, -math.inf) >= at_s

    def refusal(self, id_: MonitorId, since_s: float) -> Outcome | None:
        """Return why a monitor cannot be served in an outage that began at `since_s`; None if it can."""
        entry = self._entries.get(id_)
        if not entry:
            return _NOT_CACHED if entry is None else _PUSH
        read_s, interval = _header_of(entry)
        age_s = since_s - read_s
        return None if age_s <= RECENT_S or age_s <= RECENT_PERIODS * interval else _NOT_CACHED

    def read(self, ids: Sequence[MonitorId], since_s: float, now_s: float) -> Reading:
        """Return what was read shortly before an outage that began at `since_s`, and why the rest is not available."""
        found: dict[MonitorId, Snapshot] = {}
        deferred: dict[MonitorId, Outcome] = {}
        oldest_s = now_s
        entries, refusal_of = self._entries, self.refusal
        for id_ in ids:
            refusal = refusal_of(id_, since_s)
            if refusal:
                deferred[id_] = refusal
                continue
            read_s, found[id_] = _known(id_, entries[id_])
            oldest_s = min(oldest_s, read_s)
        return Reading(found, {}, deferred, from_cache=True, age_s=now_s - oldest_s)

    def interval_s(self, id_: MonitorId) -> int | None:
        """Return the interval that a monitor had when it was last read; None if it is not in the cache."""
        entry = self._entries.get(id_)
        return _known(id_, entry)[1].monitor.interval if entry else None

    def name_of(self, id_: MonitorId) -> str | None:
        """Return the name that a monitor had when it was last read; None if it is not in the cache."""
        entry = self._entries.get(id_)
        return _known(id_, entry)[1].monitor.name if entry else None

    async def search(self, text: str, limit: int, at_once: int) -> list[Named]:
        """Return at most `limit` monitors whose names contain a text, in any case.

        Other tasks run after every `at_once` names, and what they add meanwhile may be missed.
        """
        found: list[Named] = []
        wanted = text.lower()
        ids = [*self._entries]
        for start in range(0, len(ids), at_once):
            for id_ in ids[start : start + at_once]:
                name = self.name_of(id_)
                if name is not None and wanted in name.lower():
                    found.append(Named(id_, name))
            if len(found) >= limit:
                break
            await asyncio.sleep(0)
        return sorted(found, key=lambda one: (one.name.lower(), one.id))[:limit]

    def _remove(self, id_: MonitorId) -> int:
        """Remove a monitor's entry; return how many bytes it took."""
        before = self._entries.pop(id_, None)
        taken_bytes = 0 if before is None else len(before) + len(id_) + _OBJECTS_BYTES
        self._entries_bytes -= taken_bytes
        return taken_bytes

    def _forgotten_bytes(self) -> int:
        return sys.getsizeof(self._forgotten_s) + len(self._forgotten_s) * _ID_BYTES

    def _average_bytes(self) -> float:
        members = len(self._entries)
        return (self._entries_bytes / members if members else _ASSUMED_BYTES) + _TABLE_BYTES


def _entry(snapshot: Snapshot | None, at_s: float) -> bytes | None:
    """Return a monitor's entry; None if it gets no check, or has text that is not valid UTF-8."""
    if snapshot is None or not snapshot.monitor.active:
        return None
    if snapshot.monitor.type == "push":
        return _IS_PUSH
    monitor = list(astuple(snapshot.monitor))
    del monitor[_ID]
    proxy = astuple(snapshot.proxy) if snapshot.proxy else None
    maintenances = [astuple(one) for one in snapshot.maintenances]
    encoded = bytearray(_HEADER.pack(at_s, snapshot.monitor.interval))
    try:
        _encode_into((monitor, proxy, maintenances), encoded, _HEADER.size)
    except (ValueError, OverflowError):
        return None
    # Encoder.encode would return bytes that keep their whole write buffer.
    return bytes(encoded)


def _known(id_: MonitorId, entry: bytes) -> tuple[float, Snapshot]:
    """Return when a monitor was read, and what was read."""
    monitor: list[Any]
    proxy: list[Any] | None
    maintenances: list[list[Any]]
    monitor, proxy, maintenances = _decode(entry[_HEADER.size :])
    monitor.insert(_ID, id_)
    return _header_of(entry)[0], Snapshot(
        Monitor(*monitor),
        Proxy(*proxy) if proxy else None,
        tuple([Maintenance(*one) for one in maintenances]),
        None,
    )
