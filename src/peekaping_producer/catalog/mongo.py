"""The catalogue in MongoDB: one query per collection and batch. Ids and references are ObjectIds, or their hex."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from bson import ObjectId
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ServerSelectionTimeoutError

from peekaping_producer.catalog import rows
from peekaping_producer.catalog.assembly import maintenances_of, monitors_of, page_of, reading_of
from peekaping_producer.catalog.mongo_client import (
    CONNECT_TIMEOUT_S,
    Calls,
    Document,
    cure,
    left_ms,
    open_client,
    open_database,
    operators_mend,
)
from peekaping_producer.catalog.problems import told, unmigrated
from peekaping_producer.catalog.reading import MOST_NAMED, Changes, Named, Page, Place, Reading, is_text, named
from peekaping_producer.config.settings import Settings
from peekaping_producer.errors import ConfigurationError, Unavailable
from peekaping_producer.model.ids import is_object_id
from peekaping_producer.model.monitor import Heartbeat, Maintenance, Monitor, MonitorId, Proxy
from peekaping_producer.tls_probe import TLS_ONLY, speaks_tls

T = TypeVar("T")
NO_OBJECT_ID = "id is not an ObjectId"
COLLECTIONS = ("monitor", "proxies", "maintenance", "monitor_maintenance", "heartbeat")
MOST_STRAYS = 100

_TEXTS_AND_FLAGS = {"name": "", "type": "", "protocol": "", "host": "", "active": False, "auth": False}
_HEARTBEAT_FLAGS = {"important": False, "notified": False}
_NUMBERS = ("interval", "timeout", "max_retries", "retry_interval", "resend_interval", "port", "status")
ZEROES: Mapping[str, Any] = {**_TEXTS_AND_FLAGS, **_HEARTBEAT_FLAGS, **dict.fromkeys(_NUMBERS, 0)}
"""What a field that is missing or null reads as, as it does in Peekaping's own services."""

_ACTIVE = {"$nin": [False, None]}
_HEX = "^[0-9a-f]{24}$"
_SCHEDULABLE = ("id", "interval", "created_at", "updated_at", "active")
NEWEST: list[Document] = [{"$sort": {"monitor_id": 1, "time": -1}}, {"$limit": 1}]
"""The order of the index of `heartbeat`, so that one entry of it is read for each monitor."""


class MongoCatalog:
    """Reads monitors and what belongs to them. Every read raises Unavailable when it did not succeed whole."""

    def __init__(self, settings: Settings, *, connections: int, timeout_s: float, scan_timeout_s: float) -> None:
        """Prepare at most `connections` for batches, one for urgent reads, and one for whole collections.

        Raises ConfigurationError for a DB_HOST or DB_NAME that can't be one.
        """
        self._settings = settings
        self._timeout_s = timeout_s
        self._scan_timeout_s = scan_timeout_s
        self._client = open_client(settings, connections + 1, timeout_s)
        self._calls = Calls(self._client)
        # A client of its own, since a client's time limits are those of all its calls.
        self._scan_client = open_client(settings, 1, scan_timeout_s)
        self._scans = Calls(self._scan_client)
        self._one_scan = asyncio.Lock()
        self._batches = open_database(self._client, settings.db_name)
        self._whole = open_database(self._scan_client, settings.db_name)

    async def check(self) -> None:
        """See Catalog."""
        try:
            missing = await self._calls.answer(self._missing(), CONNECT_TIMEOUT_S)
        except Unavailable as error:
            mend = operators_mend(error)
            if mend:
                raise mend from error
            host, port = self._settings.db_host or "", self._settings.db_port or 0
            if isinstance(error.__cause__, ServerSelectionTimeoutError) and await speaks_tls(host, port):
                raise ConfigurationError(f"DB_HOST is {host!r}, DB_PORT is {port}: {TLS_ONLY}") from error
            raise told(error, cure(error), self._settings) from error
        except ValueError as error:
            # Of the driver, before it sends a password; it names none of it.
            raise ConfigurationError(f"DB_USER or DB_PASS is nothing that MongoDB takes: {error}") from error
        if missing:
            raise unmigrated(self._settings, missing)

    async def read(self, ids: Sequence[MonitorId]) -> Reading:
        """Read monitors by their ids, with proxies, active maintenances and (for push) newest heartbeats."""
        invalid: dict[MonitorId, str] = {id_: NO_OBJECT_ID for id_ in ids if not is_object_id(id_)}
        asked = [id_ for id_ in ids if id_ not in invalid]
        if not asked:
            return Reading({}, invalid)
        return await self._answer(self._read(asked, invalid))

    async def _read(self, asked: Sequence[MonitorId], invalid: dict[MonitorId, str]) -> Reading:
        documents = await self._find(self._batches, "monitor", _among("_id", asked), Monitor.__struct_fields__)
        monitors = monitors_of(_rows(documents, Monitor.__struct_fields__), set(asked), invalid)
        proxy_ids = {m.proxy_id for m in monitors.values() if m.proxy_id and is_object_id(m.proxy_id)}
        proxies = await self._find(self._batches, "proxies", _among("_id", proxy_ids), Proxy.__struct_fields__)
        maintenances = await self._maintenances(monitors)
        heartbeats = await self._newest_heartbeats([m.id for m in monitors.values() if m.type == "push"])
        return reading_of(
            monitors,
            {row[0]: row for row in _rows(proxies, Proxy.__struct_fields__)},
            maintenances_of(maintenances),
            _rows(heartbeats, Heartbeat.__struct_fields__),
            invalid,
        )

    async def active(self, after: MonitorId | None, limit: int) -> Page:
        """Read a page of at most `limit` active monitors whose ids come behind `after`."""
        documents, next_after = await self._scan(partial(self._page, {"active": _ACTIVE}, after, limit, _SCHEDULABLE))
        strays = await self._scan(self._strays) if after is None else ()
        page = page_of(_rows(documents, _SCHEDULABLE), next_after)
        page.invalid.update((str(stray["_id"]), NO_OBJECT_ID) for stray in strays)
        return page

    async def active_of(self, ids: Sequence[MonitorId], *, urgent: bool = False) -> Page:
        """Read those of these monitors that are active; any other is inactive, or has no row."""
        asked = [id_ for id_ in ids if is_object_id(id_)]
        active = {**_among("_id", asked), "active": _ACTIVE}
        if urgent:
            documents = await self._answer(self._find(self._batches, "monitor", active, _SCHEDULABLE))
        else:
            documents = await self._scan(partial(self._find, self._whole, "monitor", active, _SCHEDULABLE))
        return page_of(_rows(documents, _SCHEDULABLE), None)

    async def changed(self, since: datetime, after: Place | None, limit: int) -> Changes:
        """Read a page of at most `limit` monitors changed at or after `since`, behind the place `after`."""
        columns = ("id", "updated_at")
        # Dates have milliseconds, and the driver cuts off the rest.
        place = None if after is None else MonitorId(str(after))
        changed = {"updated_at": {"$gte": since.astimezone(UTC)}}
        documents, next_after = await self._scan(partial(self._page, changed, place, limit, columns))
        fetched = _rows(documents, columns)
        times = [time for row in fetched if (time := rows.instant_or_none(row[1]))]
        return Changes(tuple(row[0] for row in fetched), max(times, default=None), next_after)

    async def names(self, ids: Sequence[MonitorId]) -> dict[MonitorId, str]:
        """Read the names of monitors, active or not; one that has no row, or no name that is text, is left out."""
        asked = [id_ for id_ in ids if is_object_id(id_)]
        documents = await self._answer(self._find(self._batches, "monitor", _among("_id", asked), ("id", "name")))
        return {row[0]: row[1] for row in _rows(documents, ("id", "name")) if is_text(row[1])}

    async def named(self, name: str) -> list[Named]:
        """Read the monitors of this name, active or not: exactly, or else but for upper and lower case, up to 100."""
        columns = ("id", "name")
        for condition in (name, {"$regex": f"^{re.escape(name)}$", "$options": "i"}):
            call = partial(self._find, self._whole, "monitor", {"name": condition}, columns, "_id", MOST_NAMED)
            rows_of_ids = (row for row in _rows(await self._scan(call), columns) if is_object_id(row[0]))
            found = named(rows_of_ids, name)
            if found:
                return found
        return []

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(self._calls.end(), self._scans.end())

    async def _scan(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        # The wait for another one, which has a deadline too, does not count.
        async with self._one_scan:
            return await self._answer_within(self._scans, call(), self._scan_timeout_s)

    async def _answer(self, call: Coroutine[Any, Any, T]) -> T:
        return await self._answer_within(self._calls, call, self._timeout_s)

    async def _answer_within(self, calls: Calls, call: Coroutine[Any, Any, T], timeout_s: float) -> T:
        try:
            return await calls.answer(call, timeout_s)
        except Unavailable as error:
            raise told(error, cure(error), self._settings) from error

    async def _missing(self) -> list[str]:
        """Name what is not there. A collection comes into being with its first document, so one is enough."""
        for name in COLLECTIONS:
            await self._batches[name].find_one({}, {"_id": True})
        present = await self._batches.list_collection_names(nameOnly=True, authorizedCollections=True)
        if not set(COLLECTIONS) & set(present):
            return [f"collection {name}" for name in COLLECTIONS]
        sample = await self._batches["monitor"].find_one({}, {"interval": True, "type": True})
        return [f"field monitor.{name}" for name in ("interval", "type") if sample is not None and name not in sample]

    async def _find(
        self,
        database: AsyncDatabase[Document],
        collection: str,
        filter_: Document,
        columns: Iterable[str],
        sort: str | None = None,
        limit: int = 0,
    ) -> list[Document]:
        """Read documents whole or not at all, in one reply where it can hold them."""
        cursor = database[collection].find(
            filter_,
            [_field(column) for column in columns],
            sort=[(sort, 1)] if sort else None,
            limit=limit,
            batch_size=100_000,
            max_time_ms=left_ms(),
        )
        return await cursor.to_list()

    async def _page(
        self, filter_: Document, after: MonitorId | None, limit: int, columns: Sequence[str]
    ) -> tuple[list[Document], MonitorId | None]:
        """Read monitors in the order of their ids' hex, whichever of the two types each id has."""
        ranges: tuple[Document, Document] = (
            {"$regex": _HEX, "$gt": after or ""},
            {"$gt": ObjectId(after)} if after else {"$type": "objectId"},
        )
        found = {
            str(document["_id"]): document
            for range_ in ranges
            for document in await self._find(self._whole, "monitor", {**filter_, "_id": range_}, columns, "_id", limit)
        }
        ids = sorted(found)[:limit]
        return [found[id_] for id_ in ids], MonitorId(ids[-1]) if len(ids) == limit else None

    async def _strays(self) -> list[Document]:
        """Read some active monitors that no page holds."""
        proper = [{"_id": {"$type": "objectId"}}, {"_id": {"$regex": _HEX}}]
        return await self._find(self._whole, "monitor", {"active": _ACTIVE, "$nor": proper}, ("id",), limit=MOST_STRAYS)

    async def _maintenances(self, ids: Iterable[MonitorId]) -> list[rows.Row]:
        """Read the active maintenances of monitors: each a monitor's id, and the maintenance's columns."""
        columns = Maintenance.__struct_fields__
        links = await self._find(
            self._batches, "monitor_maintenance", _among("monitor_id", ids), ("monitor_id", "maintenance_id")
        )
        linked = {hex_ for link in links if is_object_id(hex_ := str(link.get("maintenance_id")))}
        documents = await self._find(self._batches, "maintenance", {**_among("_id", linked), "active": True}, columns)
        active = {row[0]: row for row in _rows(documents, columns)}
        return [
            (str(link["monitor_id"]), *active[maintenance_id])
            for link in links
            if (maintenance_id := str(link.get("maintenance_id"))) in active
        ]

    async def _newest_heartbeats(self, ids: Sequence[MonitorId]) -> list[Document]:
        """Read the newest heartbeat of each of these monitors, the older ones of each first."""
        if not ids:
            return []
        reference: Document = {"from": "heartbeat", "foreignField": "monitor_id", "pipeline": NEWEST}
        to_object_id = {"$convert": {"input": "$_id", "to": "objectId", "onError": None}}
        cursor = await self._batches["monitor"].aggregate(
            [
                {"$match": _among("_id", ids)},
                {"$project": {"object_id": to_object_id, "hex": {"$toString": "$_id"}}},
                {"$lookup": {**reference, "localField": "object_id", "as": "by_object_id"}},
                {"$lookup": {**reference, "localField": "hex", "as": "by_hex"}},
            ],
            batchSize=100_000,
            maxTimeMS=left_ms(),
        )
        beats = [
            beat for document in await cursor.to_list() for beat in (*document["by_object_id"], *document["by_hex"])
        ]
        return sorted(beats, key=_instant_of)


def _among(field: str, ids: Iterable[str]) -> Document:
    """Return the filter for references to these ids, as ObjectId and as text."""
    texts = list(ids)
    return {field: {"$in": [*map(ObjectId, texts), *texts]}}


def _field(column: str) -> str:
    return "_id" if column == "id" else column


def _rows(documents: Iterable[Document], columns: Sequence[str]) -> list[rows.Row]:
    """Return each document's fields in the order of the columns."""
    names = [(_field(column), ZEROES.get(column)) for column in columns]
    return [[_value(document.get(name), zero) for name, zero in names] for document in documents]


def _value(value: object, zero: object) -> object:
    """Return a value as the SQL drivers would: ids as text, 20.0 as 20, an absent one as its zero."""
    if value is None:
        return zero
    if isinstance(value, ObjectId):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    # An Int64 is an int of its own kind.
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _instant_of(beat: Document) -> datetime:
    return rows.instant_or_none(beat.get("time")) or datetime.min.replace(tzinfo=UTC)
