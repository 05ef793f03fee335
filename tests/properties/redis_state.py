"""The State that a real Redis is in, read in one step."""

from typing import Any, cast

from redis import Redis

from peekaping_producer.asynq import keys as asynq
from peekaping_producer.asynq.message import task_id
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import DUE, GO_SEEN, LEADER, LEASE, LEFT, REMOVED, STEP
from properties.model import State, Task
from support.asynq_states import GROUP_NAME

_PREFIX = task_id(MonitorId(""))
_STATES = frozenset({"pending", "active", "scheduled", "retry", "archived", "completed", "aggregating"})
_ZSETS = (DUE, LEASE, REMOVED, asynq.LEASE)
WAITING = {
    "scheduled": asynq.SCHEDULED,
    "retry": asynq.RETRY,
    "archived": asynq.ARCHIVED,
    "completed": asynq.COMPLETED,
    "aggregating": asynq.GROUP + GROUP_NAME,
}
_READ = """
local found = {redis.call('TIME')}
for i = 1, 4 do found[#found + 1] = redis.call('ZRANGE', KEYS[i], 0, -1, 'WITHSCORES') end
for i = 5, 9 do found[#found + 1] = redis.call('ZRANGE', KEYS[i], 0, -1) end
for i = 10, 11 do found[#found + 1] = redis.call('LRANGE', KEYS[i], 0, -1) end
for i = 12, 13 do found[#found + 1] = redis.call('GET', KEYS[i]) or '' end
found[#found + 1] = redis.call('EXISTS', KEYS[14])
found[#found + 1] = redis.call('HGETALL', KEYS[15])
local running = {}
if redis.call('TYPE', KEYS[16]).ok == 'string' then
  running = 'damaged'
else
  for _, worker in ipairs(redis.call('ZRANGE', KEYS[16], 0, -1)) do
    for _, task in ipairs(redis.call('HKEYS', worker)) do running[#running + 1] = task end
  end
end
found[#found + 1] = running
for i = 17, #KEYS do
  local kind = redis.call('TYPE', KEYS[i]).ok
  found[#found + 1] = kind == 'hash' and redis.call('HMGET', KEYS[i], 'state', 'msg', 'pending_since') or kind
end
return found
"""


class StateReader:
    """Reads the state of one Redis, with the tasks of some monitors."""

    def __init__(self, redis: Redis, ids: list[MonitorId]) -> None:
        self._read = redis.register_script(_READ)
        self._ids = ids
        self._keys = [
            *_ZSETS,
            *WAITING.values(),
            asynq.PENDING,
            asynq.ACTIVE,
            LEADER,
            LEFT,
            GO_SEEN,
            STEP,
            asynq.WORKERS,
            *(asynq.TASK + task_id(id_) for id_ in ids),
        ]

    def __call__(self) -> State:
        time, *found = cast("list[Any]", self._read(keys=self._keys))
        due, lease, tombstones, worker_leases = ({_id(k): float(v) for k, v in _pairs(part)} for part in found[:4])
        waiting, (pending, active) = found[4:9], ([_id(task) for task in part] for part in found[9:11])
        leader, left, go_seen, step, running = found[11:16]
        return State(
            now_ms=int(time[0]) * 1000 + int(time[1]) // 1000,
            due=due,
            lease=lease,
            tombstones=tombstones,
            leader=leader.decode() or None,
            left=int(left or 0),
            step={name.decode(): int(value) for name, value in _pairs(step)},
            tasks={id_: task for id_, part in zip(self._ids, found[16:], strict=True) if (task := _task(part))},
            pending=pending,
            active=active,
            worker_leases=worker_leases,
            waiting={name: [_id(task) for task in part] for name, part in zip(WAITING, waiting, strict=True)},
            running=None if running == b"damaged" else {_id(task) for task in running},
            go_seen=bool(go_seen),
        )


def _id(member: bytes) -> str:
    return member.decode().removeprefix(_PREFIX)


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _task(found: bytes | list[bytes | None]) -> Task | None:
    if isinstance(found, bytes):
        return None if found == b"none" else Task(None, found)
    state, message, since_ns = found
    name = (state or b"").decode()
    since_ms = int(since_ns) // 1_000_000 if since_ns else None
    return Task(name if name in _STATES and message else None, message or b"", since_ms)
