"""What the API server publishes when it writes a monitor (docs/protocol.md, section 3)."""

from datetime import UTC, datetime

import msgspec
from redis.asyncio import Redis

from peekaping_producer.leader.event_message import CREATED, DELETED, STATUS_CHANGED, UPDATED
from support.databases import Row, new_id

ZERO_TIME = "0001-01-01T00:00:00Z"
"""A full update's `created_at`."""


def row_message(kind: str, row: Row | str | None, **fields: object) -> bytes:
    """Return a message of one monitor: its row, where `fields` may differ from it, its id, or nothing at all."""
    payload: object = row
    if isinstance(row, dict):
        values = {name: _value(value) for name, value in row.items()} | fields
        payload = values | {"proxy_id": values["proxy_id"] or ""}
    return msgspec.json.encode({"type": kind, "payload": payload})


async def publish_created(redis: Redis, row: Row, **fields: object) -> int:
    """Publish that a monitor was created; return how many heard."""
    return int(await redis.publish(CREATED, row_message("monitor.created", row, **fields)))


async def publish_updated(redis: Redis, row: Row | None, **fields: object) -> int:
    """Publish that a monitor was updated, an unknown one if `row` is None; return how many heard it."""
    return int(await redis.publish(UPDATED, row_message("monitor.updated", row, **fields)))


async def publish_deleted(redis: Redis, id_: str) -> int:
    """Publish that a monitor was deleted; return how many heard."""
    return int(await redis.publish(DELETED, row_message("monitor.deleted", id_)))


async def publish_status(redis: Redis, id_: str, status: int) -> int:
    """Publish what the ingester does when a check has changed a monitor's status; return how many heard."""
    beat = {
        "id": new_id(),
        "monitor_id": id_,
        "status": status,
        "msg": "connection refused",
        "ping": 0,
        "duration": 0,
        "down_count": 0,
        "retries": 1,
        "important": False,
        "time": "2026-01-02T03:04:05.678912345Z",
        "end_time": "2026-01-02T03:04:05.789Z",
        "notified": False,
    }
    message = {"type": "monitor.status.changed", "payload": beat}
    return int(await redis.publish(STATUS_CHANGED, msgspec.json.encode(message)))


def _value(value: object) -> object:
    return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z" if isinstance(value, datetime) else value
