"""MongoDB: one query per collection and batch, and one more with PRODUCER_RETRY_INTERVAL.

Ids and references are ObjectIds, or their hex.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, Final, TypeVar

from bson import ObjectId
from msgspec import Struct
from msgspec.inspect import BoolType, IntType, StrType
from pymongo.errors import ServerSelectionTimeoutError

from peekaping_producer.catalog import rows
from peekaping_producer.catalog.assembly import counts_of, maintenances_of, monitors_of, page_of, reading_of, retries_of
from peekaping_producer.catalog.fields import fields
from peekaping_producer.catalog.limits import CONNECT_TIMEOUT_S, MOST_COUNTED, MOST_NAMED, MOST_STRAYS, Limits
from peekaping_producer.catalog.mongo_calls import Calls, fix, left_ms
from peekaping_producer.catalog.mongo_client import Document, tls_problem
from peekaping_producer.catalog.problems import configuration_error, server_address, unavailable, unmigrated
from peekaping_producer.catalog.reading import (
    Changes,
    Counts,
    Facts,
    Named,
    Page,
    Place,
    Reading,
    Result,
    is_text,
    named,
    results,
)
from peekaping_producer.config.fields import Switch
from peekaping_producer.config.settings import Settings
from peekaping_producer.errors import ConfigurationError, Unavailable
from peekaping_producer.model.ids import is_object_id
from peekaping_producer.model.monitor import Heartbeat, Maintenance, Monitor, MonitorId, Proxy, Retry, Schedulable

T = TypeVar("T")
NO_OBJECT_ID = "id is not an ObjectId"
COLLECTIONS = ("monitor", "proxies", "maintenance", "monitor_maintenance", "heartbeat")
_ACTIVE: Final = {"$nin": [False, None]}
_HEX = "^[0-9a-f]{24}$"
NEWEST: list[Document] = [{"$sort": {"monitor_id": 1, "time": -1}}, {"$limit": 1}]
"""The order of the index of `heartbeat`, so that one entry of it is read for each monitor."""
_PROXY_ID = rows.PROXIES.at("id")
_MAINTENANCE_ID = rows.MAINTENANCE_COLUMNS.index("id")
_ZEROES: Final[dict[type, object]] = {StrType: "", IntType: 0, BoolType: False}


def open_catalog(settings: Settings, limits: Limits) -> "MongoCatalog":
    """Return the catalog of the configured MongoDB; nothing is connected yet.

    Raises ConfigurationError for an invalid DB_HOST or DB_NAME.
    """
    return MongoCatalog(settings, limits)


class MongoCatalog:
    """Reads monitors and what belongs to them, from MongoDB. See Catalog."""

    def __init__(self, settings: Settings, limits: Limits) -> None:
        """Prepare connections for batches, one for urgent reads, and one for whole collections.

        Raises ConfigurationError for an invalid DB_HOST or DB_NAME.
        """
        self.connections = limits.connections
        self._settings = settings
        self._limits = limits
        self._with_retries = settings.producer_retry_interval is Switch.ON
        self._calls = Calls(settings, limits.connections + 1, limits.timeout_s)
        # A second client, since a client's time limits apply to all its calls.
        self._scans = Calls(settings, 1, limits.scan_timeout_s)
        self._one_scan = asyncio.Lock()

    def is_id(self, text: str) -> bool:
        """See Catalog."""
        return is_object_id(text)

    async def check(self) -> None:
        """See Catalog."""
        try:
            missing = await self._calls.answer(self._missing, CONNECT_TIMEOUT_S)
        except Unavailable as error:
            refusal = configuration_error(error, fix(error))
            if refusal:
                raise refusal from error
            problem = await tls_problem(self._settings) if _found_no_server(error) else None
            if problem:
                raise ConfigurationError(problem) from error
            raise self._located(error) from error
        except ValueError as error:
            # The driver's, before it sends a password, which it does not show.
            raise ConfigurationError(f"DB_USER or DB_PASS is not valid for MongoDB: {error}") from error
        if missing:
            raise unmigrated(self._settings, missing, remedy="start")

    async def read(self, ids: Sequence[MonitorId]) -> Reading:
        """See Catalog."""
        invalid: dict[MonitorId, str] = {id_: NO_OBJECT_ID for id_ in ids if not is_object_id(id_)}
        asked = [id_ for id_ in ids if id_ not in invalid]
        if not asked:
            return Reading({}, invalid)
        return await self._answer(partial(self._read, asked, invalid))

    async def _read(self, asked: Sequence[MonitorId], invalid: dict[MonitorId, str]) -> Reading:
        documents = await self._find(self._calls, "monitor", _among("_id", asked), rows.MONITORS.columns)
        monitors = monitors_of(_rows(documents, rows.MONITORS.columns, Monitor), set(asked), invalid)
        proxy_ids = {m.proxy_id for m in monitors.values() if m.proxy_id and is_object_id(m.proxy_id)}
        proxies = await self._find(self._calls, "proxies", _among("_id", proxy_ids), rows.PROXIES.columns)
        maintenances = await self._maintenances(monitors)
        heartbeats = await self._newest_heartbeats([m.id for m in monitors.values() if m.type == "push"])
        return reading_of(
            monitors,
            {row[_PROXY_ID]: row for row in _rows(proxies, rows.PROXIES.columns, Proxy)},
            maintenances_of(maintenances),
            _rows(heartbeats, rows.HEARTBEATS.columns, Heartbeat),
            invalid,
            await self._retries(self._calls, list(monitors)),
        )

    async def _retries(self, calls: Calls, ids: Sequence[str]) -> dict[MonitorId, Retry]:
        if not self._with_retries or not ids:
            return {}
        columns = rows.RETRY_COLUMNS
        documents = await self._find(calls, "monitor", _among("_id", ids), columns)
        return retries_of([_value(document.get(_field(name)), 0) for name in columns] for document in documents)

    async def active(self, after: MonitorId | None, limit: int) -> Page:
        """See Catalog."""
        columns = rows.SCHEDULABLES.columns
        documents, next_after = await self._scan(partial(self._page, {"active": _ACTIVE}, after, limit, columns))
        strays = await self._scan(self._strays) if after is None else ()
        retries = await self._scan(partial(self._retries, self._scans, [str(found["_id"]) for found in documents]))
        page = page_of(_rows(documents, columns, Schedulable), next_after, retries)
        page.invalid.update((str(stray["_id"]), NO_OBJECT_ID) for stray in strays)
        return page

    async def active_of(self, ids: Sequence[MonitorId], *, urgent: bool = False) -> Page:
        """See Catalog."""
        columns = rows.SCHEDULABLES.columns
        asked = [id_ for id_ in ids if is_object_id(id_)]
        active = {**_among("_id", asked), "active": _ACTIVE}
        calls, answer = (self._calls, self._answer) if urgent else (self._scans, self._scan)
        documents = await answer(partial(self._find, calls, "monitor", active, columns))
        retries = await answer(partial(self._retries, calls, asked)) if self._with_retries else {}
        return page_of(_rows(documents, columns, Schedulable), None, retries)

    async def changed(self, since: datetime, after: Place | None, limit: int) -> Changes:
        """See Catalog."""
        # Dates have milliseconds, and the driver cuts off the rest.
        place = None if after is None else MonitorId(str(after))
        changed = {"updated_at": {"$gte": since.astimezone(UTC)}}
        documents, next_after = await self._scan(partial(self._page, changed, place, limit, ("id", "updated_at")))
        times = [time for document in documents if (time := rows.instant_or_none(document.get("updated_at")))]
        return Changes(tuple(map(_id_of, documents)), max(times, default=None), next_after)

    async def names(self, ids: Sequence[MonitorId]) -> dict[MonitorId, str]:
        """See Catalog."""
        asked = [id_ for id_ in ids if is_object_id(id_)]
        call = partial(self._find, self._calls, "monitor", _among("_id", asked), ("id", "name"))
        documents = await self._answer(call)
        return {_id_of(document): name for document in documents if is_text(name := _name_of(document))}

    async def named(self, name: str) -> list[Named]:
        """See Catalog."""
        for condition in (name, {"$regex": f"^{re.escape(name)}$", "$options": "i"}):
            call = partial(self._find, self._scans, "monitor", {"name": condition}, ("id", "name"), "_id", MOST_NAMED)
            found = [
                (id_, _name_of(document))
                for document in await self._scan(call)
                if is_object_id(id_ := _id_of(document))
            ]
            monitors = named(found, name)
            if monitors:
                return monitors
        return []

    async def search(self, text: str, limit: int) -> list[Named]:
        """See Catalog."""
        condition = {"$regex": re.escape(text), "$options": "i"}
        call = partial(self._find, self._scans, "monitor", {"name": condition}, ("id", "name"), "name", limit)
        found = [(_id_of(document), _name_of(document)) for document in await self._scan(call)]
        monitors = [Named(id_, name) for id_, name in found if is_object_id(id_) and is_text(name)]
        return sorted(monitors, key=lambda one: (one.name.lower(), one.id))

    async def results(self, id_: MonitorId, limit: int) -> list[Result]:
        """See Catalog."""
        return await self._answer(partial(self._results, id_, limit))

    async def _results(self, id_: MonitorId, limit: int) -> list[Result]:
        cursor = self._calls.database["heartbeat"].find(
            _among("monitor_id", [id_]),
            ["time", "status", "ping"],
            sort=[("time", -1)],
            limit=limit,
            max_time_ms=left_ms(),
        )
        return results(
            (rows.instant_or_none(beat.get("time")), _value(beat.get("status"), None), _value(beat.get("ping"), None))
            for beat in await cursor.to_list()
        )

    async def facts(self) -> Facts:
        """See Catalog."""
        info = await self._answer(lambda: self._calls.database.command("buildInfo"))
        return Facts("MongoDB", str(info.get("version")), COLLECTIONS, self._calls.tls)

    async def counts(self) -> Counts:
        """See Catalog."""
        return await self._scan(self._counts)

    async def _counts(self) -> Counts:
        cursor = await self._scans.database["monitor"].aggregate(
            [
                {"$limit": MOST_COUNTED + 1},
                {"$project": {"active": {"$ifNull": ["$active", False]}}},
                {"$group": {"_id": None, "monitors": {"$sum": 1}, "active": {"$sum": {"$cond": ["$active", 1, 0]}}}},
            ],
            maxTimeMS=left_ms(),
        )
        counted = await cursor.to_list()
        return counts_of(counted[0]["monitors"], counted[0]["active"]) if counted else counts_of(0, 0)

    async def close(self) -> None:
        """See Catalog."""
        await asyncio.gather(self._calls.end(), self._scans.end())

    async def _scan(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        # Waiting for another scan does not count; that has a deadline, too.
        async with self._one_scan:
            return await self._answer_within(self._scans, call, self._limits.scan_timeout_s)

    async def _answer(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await self._answer_within(self._calls, call, self._limits.timeout_s)

    async def _answer_within(self, calls: Calls, call: Callable[[], Coroutine[Any, Any, T]], timeout_s: float) -> T:
        try:
            return await calls.answer(call, timeout_s)
        except Unavailable as error:
            raise self._located(error) from error

    def _located(self, error: Unavailable) -> Unavailable:
        advice = fix(error)
        unanswered = _found_no_server(error)
        if self._settings.db_replica_set and unanswered:
            advice = f"is a primary of DB_REPLICA_SET {self._settings.db_replica_set!r} there?"
        return unavailable(error, server_address(self._settings), advice, unanswered=unanswered)

    async def _missing(self) -> list[str]:
        """Return what does not exist. A collection is created with its first document, so one of them is enough."""
        for name in COLLECTIONS:
            await self._calls.database[name].find_one({}, {"_id": True})
        present = await self._calls.database.list_collection_names(nameOnly=True, authorizedCollections=True)
        if not set(COLLECTIONS) & set(present):
            return [f"collection {name}" for name in COLLECTIONS]
        sample = await self._calls.database["monitor"].find_one({}, {"interval": True, "type": True})
        return [f"field monitor.{name}" for name in ("interval", "type") if sample is not None and name not in sample]

    async def _find(
        self,
        calls: Calls,
        collection: str,
        filter_: Document,
        columns: Iterable[str],
        sort: str | None = None,
        limit: int = 0,
    ) -> list[Document]:
        """Read all documents, in one reply where it can hold them."""
        cursor = calls.database[collection].find(
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
        """Read monitors in the order of their ids' hex, whichever of the two types each has."""
        ranges: tuple[Document, Document] = (
            {"$regex": _HEX, "$gt": after or ""},
            {"$gt": ObjectId(after)} if after else {"$type": "objectId"},
        )
        found = {
            str(document["_id"]): document
            for range_ in ranges
            for document in await self._find(self._scans, "monitor", {**filter_, "_id": range_}, columns, "_id", limit)
        }
        ids = sorted(found)[:limit]
        return [found[id_] for id_ in ids], MonitorId(ids[-1]) if len(ids) == limit else None

    async def _strays(self) -> list[Document]:
        """Read some active monitors that no page holds."""
        proper = [{"_id": {"$type": "objectId"}}, {"_id": {"$regex": _HEX}}]
        return await self._find(self._scans, "monitor", {"active": _ACTIVE, "$nor": proper}, ("id",), limit=MOST_STRAYS)

    async def _maintenances(self, ids: Iterable[MonitorId]) -> list[tuple[MonitorId, rows.Row]]:
        """Read the active maintenances of monitors: pairs of a monitor's id and a maintenance's row."""
        columns = rows.MAINTENANCE_COLUMNS
        links = await self._find(
            self._calls, "monitor_maintenance", _among("monitor_id", ids), ("monitor_id", "maintenance_id")
        )
        linked = {hex_ for link in links if is_object_id(hex_ := str(link.get("maintenance_id")))}
        documents = await self._find(self._calls, "maintenance", {**_among("_id", linked), "active": True}, columns)
        active = {row[_MAINTENANCE_ID]: row for row in _rows(documents, columns, Maintenance)}
        return [
            (MonitorId(str(link["monitor_id"])), active[maintenance_id])
            for link in links
            if (maintenance_id := str(link.get("maintenance_id"))) in active
        ]

    async def _newest_heartbeats(self, ids: Sequence[MonitorId]) -> list[Document]:
        """Read the newest heartbeats of these monitors, at most two of each, in the order of their times."""
        if not ids:
            return []
        reference: Document = {"from": "heartbeat", "foreignField": "monitor_id", "pipeline": NEWEST}
        to_object_id = {"$convert": {"input": "$_id", "to": "objectId", "onError": None}}
        cursor = await self._calls.database["monitor"].aggregate(
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


def _found_no_server(error: Unavailable) -> bool:
    return isinstance(error.__cause__, ServerSelectionTimeoutError)


def _among(field: str, ids: Iterable[str]) -> Document:
    """Return the filter for references to these ids, as ObjectId and as text."""
    texts = list(ids)
    return {field: {"$in": [*map(ObjectId, texts), *texts]}}


def _field(column: str) -> str:
    return "_id" if column == "id" else column


def _rows(documents: Iterable[Document], columns: Sequence[str], model: type[Struct]) -> list[rows.Row]:
    """Return each document's fields in the order of the columns; one that is missing reads as the zero of its type."""
    zeroes = _zeroes(model)
    names = [(_field(column), zeroes.get(column)) for column in columns]
    return [[_value(document.get(name), zero) for name, zero in names] for document in documents]


@cache
def _zeroes(model: type[Struct]) -> dict[str, object]:
    """Return what a field that is missing or null reads as, by its type, as in Peekaping's own services."""
    return {field.name: None if field.optional else _ZEROES.get(type(field.type)) for field in fields(model)}


def _value(value: object, zero: object) -> object:
    """Return a value as the SQL drivers would: ids as text, 20.0 as 20; the zero where there is none."""
    if value is None:
        return zero
    if isinstance(value, ObjectId):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    # An Int64 is a subclass of int.
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _id_of(document: Document) -> MonitorId:
    return MonitorId(str(document["_id"]))


def _name_of(document: Document) -> object:
    return _value(document.get("name"), "")


def _instant_of(beat: Document) -> datetime:
    return rows.instant_or_none(beat.get("time")) or datetime.min.replace(tzinfo=UTC)
