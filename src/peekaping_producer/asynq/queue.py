"""The queue of health checks as asynq keeps it: its size, the servers that take from it, the state of one task."""

from typing import Any, cast

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.message import task_id
from peekaping_producer.asynq.server_state_pb2 import ServerInfo
from peekaping_producer.asynq.task_message_pb2 import TaskMessage
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.client import answered, load_script

_MOST_SERVERS = 1_000
_QUEUE_KEYS = (
    keys.PAUSED,
    keys.PENDING,
    keys.ACTIVE,
    keys.SCHEDULED,
    keys.RETRY,
    keys.ARCHIVED,
    keys.COMPLETED,
    keys.SERVERS,
)


class Waiting(Struct, frozen=True):
    """The oldest pending task."""

    monitor_id: str
    age_s: float
    interval_s: int
    """0 if its message can't be read."""


class QueueState(Struct, frozen=True):
    """The queue at a glance."""

    paused: bool
    workers: int
    """Live asynq servers that take from the queue."""
    pending: int
    active: int
    scheduled: int
    retry: int
    archived: int
    completed: int
    oldest: Waiting | None


class TaskState(Struct, frozen=True):
    """The state of one monitor's task."""

    state: str
    """In asynq's words; `malformed` if its key holds no hash."""
    pending_s: float | None
    """How long ago it was put into the queue."""
    lease_left_s: float | None
    """How long its worker may still be silent; None if no worker holds it."""


class _Payload(Struct):
    monitor_id: str = ""
    interval: int = 0


async def queue_state(redis: Redis, timeout_s: float) -> QueueState:
    """Return the queue's state. Raises Unavailable if Redis does not answer in time."""
    script = load_script(redis, __package__, "queue")
    async with answered(timeout_s):
        reply = await script(keys=_QUEUE_KEYS, args=(keys.TASK, _MOST_SERVERS))
    seconds, paused, *lengths, oldest, records = cast("list[Any]", reply)
    pending, active, scheduled, retry, archived, completed = lengths
    waiting = _waiting(oldest[0], oldest[1], seconds) if oldest else None
    workers = sum(map(_serves, records))
    return QueueState(bool(paused), workers, pending, active, scheduled, retry, archived, completed, waiting)


async def task_state(redis: Redis, monitor_id: MonitorId, timeout_s: float) -> TaskState | None:
    """Return the state of a monitor's task; None if there is none."""
    name = task_id(monitor_id)
    async with answered(timeout_s):
        seconds, _ = await redis.time()
        fields = await _fields(redis, name.encode(), "state", "pending_since", "msg")
        lease_s = await redis.zscore(keys.LEASE, name)
    if fields is None:
        return TaskState("malformed", None, None)
    state, since_ns, message = fields
    if state is None and message is None:
        return None
    return TaskState(
        state=(state or b"none").decode(errors="replace"),
        pending_s=_age_s(since_ns, seconds),
        lease_left_s=None if lease_s is None else round(lease_s - seconds, 1),
    )


def _waiting(since_ns: bytes | None, message: bytes | None, now_s: int) -> Waiting | None:
    age_s = _age_s(since_ns, now_s)
    if age_s is None:
        return None
    payload = _payload(message)
    return Waiting(payload.monitor_id, age_s, payload.interval)


async def _fields(redis: Redis, name: bytes, *fields: str) -> list[bytes | None] | None:
    """Return fields of a task's hash; None if its key holds another type, which settle replaces."""
    try:
        return cast("list[bytes | None]", await cast("Any", redis.hmget(keys.TASK.encode() + name, list(fields))))
    except ResponseError as error:
        if type(error) is not ResponseError:  # a subclass: a right is missing, or a login was refused
            raise
        return None


def _age_s(since_ns: bytes | None, now_s: int) -> float | None:
    return round(max(0.0, now_s - int(since_ns) / 1e9), 1) if since_ns and since_ns.isdigit() else None


def _payload(message: bytes | None) -> _Payload:
    try:
        return msgspec.json.decode(TaskMessage.FromString(message or b"").payload, type=_Payload)
    except (DecodeError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Payload()


def _serves(info: bytes) -> bool:
    try:
        return keys.QUEUE in ServerInfo.FromString(info).queues
    except DecodeError:
        return False


PAUSED = "the queue is paused: checks wait until it is resumed"

NO_WORKER = "no worker takes checks from the queue"

TOO_SLOW = "checks wait in the queue for longer than their interval"


def complaints(state: QueueState) -> list[str]:
    """Return what keeps tasks from being taken, in words."""
    if state.paused:
        return [PAUSED]
    if state.workers == 0:
        return [NO_WORKER]
    oldest = state.oldest
    return [TOO_SLOW] if oldest and oldest.interval_s and oldest.age_s > oldest.interval_s else []
