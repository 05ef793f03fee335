"""The messages that the API server publishes about monitors (docs/protocol.md, section 3)."""

import msgspec
from msgspec import Struct

from peekaping_producer.errors import CorruptRecord
from peekaping_producer.model.ids import is_monitor_id
from peekaping_producer.model.monitor import PENDING, MonitorId
from peekaping_producer.redisdb.keys import PREFIX

CREATED = f"{PREFIX}events:monitor.created"
UPDATED = f"{PREFIX}events:monitor.updated"
DELETED = f"{PREFIX}events:monitor.deleted"
STATUS_CHANGED = f"{PREFIX}events:monitor.status.changed"


class Event(Struct, frozen=True):
    """One monitor was created, updated or deleted, or will be in a moment; or its status has changed."""

    monitor_id: MonitorId
    gone: bool
    """Whether it says that the monitor is deleted or inactive."""
    pending: bool | None = None
    """Whether its new status is pending; None if it says nothing of the status."""


class _Row(Struct):
    id: str
    active: bool = True


class _RowMessage(Struct):
    payload: _Row | None


class _IdMessage(Struct):
    payload: str


class _Heartbeat(Struct):
    monitor_id: str
    status: int


class _HeartbeatMessage(Struct):
    payload: _Heartbeat


_heartbeat_message = msgspec.json.Decoder(_HeartbeatMessage)
_row_message = msgspec.json.Decoder(_RowMessage)
_id_message = msgspec.json.Decoder(_IdMessage)


def read_event(channel: str, data: bytes) -> Event | None:
    """Return what a message says; None if it is about no monitor, as after a PATCH of an unknown id.

    Raises CorruptRecord for a message that is not Peekaping's.
    """
    gone, pending = False, None
    try:
        if channel == STATUS_CHANGED:
            beat = _heartbeat_message.decode(data).payload
            id_, pending = beat.monitor_id, beat.status == PENDING
        elif channel == DELETED:
            id_, gone = _id_message.decode(data).payload, True
        else:
            row = _row_message.decode(data).payload
            if row is None:
                return None
            id_, gone = row.id, not row.active
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptRecord(str(error)) from None
    monitor_id = MonitorId(id_.lower())
    if not is_monitor_id(monitor_id):
        raise CorruptRecord("its id is not a monitor's id")
    return Event(monitor_id, gone, pending)
