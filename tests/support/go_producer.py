"""A double of the Go producer: its Redis commands (docs/protocol.md, section 1.2), flaws included, for mixed fleets.

It runs as tasks of the test's loop (`go_producing`), or as a process that can be killed (`go_started`). Its tasks carry
neither proxies, maintenances nor heartbeats: nothing that a schedule depends on.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import md5
from pathlib import Path
from typing import cast

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

import peekaping_producer
from peekaping_producer.asynq import keys
from peekaping_producer.asynq.message import TASK_TYPE
from peekaping_producer.asynq.task_message_pb2 import TaskMessage
from peekaping_producer.demo.redis_server import HOST, killed_with_parent
from peekaping_producer.redisdb.keys import DUE, LEASE, PREFIX
from support.databases import Database
from support.go_rows import GoMonitor, Place, Rows, place_of, rows_at

LEADER = f"{PREFIX}producer:leader"
EVENTS = f"{PREFIX}events:monitor."
UNIQUE = keys.PENDING.removesuffix("pending") + f"unique:{TASK_TYPE}:"
_PAUSE_AFTER_AN_ERROR_S = 0.1
_STOP_WITHIN_S = 10.0

_CLAIM = """
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZADD', KEYS[2], ARGV[1] + ARGV[3], id)
end
return ids
"""
_RECLAIM = """
local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  redis.call('ZREM', KEYS[2], id)
  redis.call('ZADD', KEYS[1], ARGV[1], id)
end
return #ids
"""
_ENQUEUE_UNIQUE = """
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then return -1 end
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('HSET', KEYS[2], 'msg', ARGV[3], 'state', 'pending', 'pending_since', ARGV[4], 'unique_key', KEYS[1])
redis.call('LPUSH', KEYS[3], ARGV[1])
return 1
"""
"""As asynq has it: a task whose id is in use is refused only after its lock was taken, so the lock stays behind."""
_RESIGN = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class GoTiming(Struct, frozen=True):
    """Its durations and sizes; the defaults are those of docs/protocol.md, section 1.2."""

    poll_s: float = 0.05
    claim_limit: int = 50
    lease_ms: int = 10_000
    reclaim_every_s: float = 2.0
    reclaim_limit: int = 5_000
    term_ms: int = 10_000
    campaign_every_s: float = 5.0
    look_every_s: float = 1.0
    """How often it checks whether it leads, and begins or ends its leader's work."""
    sweep_every_s: float = 30.0


class GoProducer:
    """One Go node. Every node claims and reclaims; the leader sweeps and listens."""

    def __init__(self, redis: Redis, rows: Rows, timing: GoTiming, node_id: str = "") -> None:
        """Take a client whose replies are bytes; nothing is sent yet."""
        self.id = node_id or f"{socket.gethostname()}-{os.getpid()}"
        """Ends in digits, as the ids of Go nodes do."""
        self.leads = False
        self.claims = self.enqueued = self.refused = 0
        self._redis, self._rows, self._timing = redis, rows, timing
        self._stopping = asyncio.Event()
        self._known: dict[str, int] = {}
        """Intervals of the monitors that it has put into the schedule while leading."""
        self._claim, self._reclaim = redis.register_script(_CLAIM), redis.register_script(_RECLAIM)
        self._enqueue, self._resign = redis.register_script(_ENQUEUE_UNIQUE), redis.register_script(_RESIGN)

    def stop(self) -> None:
        """Finish what is claimed, resign, end."""
        self._stopping.set()

    async def run(self) -> None:
        """Produce until stopped. Errors of Redis pass: each loop tries again."""
        timing = self._timing
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(timing.campaign_every_s, self.campaign, at_once=True))
            group.create_task(self._every(timing.reclaim_every_s, self.reclaim))
            group.create_task(self._lead())
            group.create_task(self._listen())
            await self._produce()
        with contextlib.suppress(RedisError):
            await self.resign()

    # --- every node

    async def claim_and_settle(self) -> int:
        """Do one round; return how many were claimed."""
        ids, now_ms = await self.claim()
        handled = [(id_, next_ms) for id_ in ids if (next_ms := await self.handle(id_, now_ms))]
        await self.settle(handled)
        return len(ids)

    async def claim(self) -> tuple[list[str], int]:
        """Take what is due into the lease; return the ids, and the instant by Redis' clock."""
        now_ms = await self._now_ms()
        ids = cast(
            "list[bytes]",
            await self._claim(keys=[DUE, LEASE], args=[now_ms, self._timing.claim_limit, self._timing.lease_ms]),
        )
        self.claims += bool(ids)
        return [id_.decode() for id_ in ids], now_ms

    async def handle(self, id_: str, now_ms: int) -> int:
        """Read one and enqueue its task; return its next slot, or 0 where it just stays in the lease."""
        monitor = await self._rows.monitor(id_)
        if monitor is None or not monitor.active or monitor.interval <= 0:
            return 0
        payload = _payload(monitor, now_ms)
        unique_key = UNIQUE + md5(payload, usedforsecurity=False).hexdigest()
        task_id = f"healthcheck:{monitor.id}"
        message = TaskMessage(
            type=TASK_TYPE,
            payload=payload,
            id=task_id,
            queue=keys.QUEUE,
            timeout=max(0, monitor.timeout),
            unique_key=unique_key,
        )
        await self._redis.sadd(keys.QUEUES, keys.QUEUE)
        taken = await self._enqueue(
            keys=[unique_key, keys.TASK + task_id, keys.PENDING],
            args=[task_id, 2 * monitor.interval, message.SerializeToString(), time.time_ns()],
        )
        if taken == 1:
            self.enqueued += 1
        else:
            self.refused += 1
        return next_multiple(now_ms, monitor.interval)

    async def settle(self, handled: Sequence[tuple[str, int]]) -> None:
        """Put the handled ones into due and out of the lease, even if another node holds it by now."""
        if not handled:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            for id_, next_ms in handled:
                pipe.zadd(DUE, {id_: next_ms})
                pipe.zrem(LEASE, id_)
            await pipe.execute()

    async def reclaim(self) -> None:
        """Make what has overrun its lease due now."""
        await self._reclaim(keys=[DUE, LEASE], args=[await self._now_ms(), self._timing.reclaim_limit])

    # --- leadership

    async def campaign(self) -> None:
        """Take the leader key if it is free, or renew it if it is ours."""
        timing = self._timing
        try:
            if await self._redis.set(LEADER, self.id, nx=True, px=timing.term_ms):
                self.leads = True
            elif await self._redis.get(LEADER) == self.id.encode():
                await self._redis.pexpire(LEADER, timing.term_ms)
                self.leads = True
            else:
                self.leads = False
        except RedisError:
            self.leads = False
            raise

    async def resign(self) -> None:
        """Delete the leader key if it is ours."""
        if self.leads:
            self.leads = False
            await self._resign(keys=[LEADER], args=[self.id])

    # --- the leader

    async def take_office(self) -> None:
        """Make monitors that are not in the schedule due now, and take out those that are not active."""
        now_ms = await self._now_ms()
        active = {monitor.id: monitor.interval for monitor in await self._rows.active() if monitor.interval > 0}
        scheduled = {
            id_.decode() for key in (DUE, LEASE) for id_ in cast("list[bytes]", await self._redis.zrange(key, 0, -1))
        }
        async with self._redis.pipeline(transaction=False) as pipe:
            for id_ in active.keys() - scheduled:
                pipe.zadd(DUE, {id_: now_ms})
            for id_ in scheduled - active.keys():
                pipe.zrem(DUE, id_)
                pipe.zrem(LEASE, id_)
            await pipe.execute()
        self._known |= active

    async def sweep(self) -> None:
        """Read the database again: new ones and changed intervals in, those no longer active out."""
        now_ms = await self._now_ms()
        active = {monitor.id: monitor.interval for monitor in await self._rows.active() if monitor.interval > 0}
        async with self._redis.pipeline(transaction=False) as pipe:
            for id_, interval in active.items():
                if self._known.get(id_) != interval:
                    pipe.zrem(DUE, id_)
                    pipe.zrem(LEASE, id_)
                    pipe.zadd(DUE, {id_: self._first_slot(id_, interval, now_ms)})
            for id_ in self._known.keys() - active.keys():
                pipe.zrem(DUE, id_)
                pipe.zrem(LEASE, id_)
            await pipe.execute()
        self._known = active

    async def hear(self, channel: str, text: bytes) -> None:
        """Act on an event, if it leads and the event can be understood."""
        if not self.leads:
            return
        try:
            payload = json.loads(text)["payload"]
            id_ = payload if channel.endswith("deleted") else payload["id"]
        except (ValueError, KeyError, TypeError):
            return
        monitor = None if channel.endswith("deleted") else await self._rows.monitor(id_)
        now_ms = await self._now_ms()
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zrem(LEASE, id_)
            if monitor and monitor.active and monitor.interval > 0:
                pipe.zadd(DUE, {id_: self._first_slot(id_, monitor.interval, now_ms)})
                self._known[id_] = monitor.interval
            else:
                self._known.pop(id_, None)
                pipe.zrem(DUE, id_)
            await pipe.execute()

    def _first_slot(self, id_: str, interval: int, now_ms: int) -> int:
        """Now for a monitor that it does not know yet, else the next multiple of the interval."""
        return next_multiple(now_ms, interval) if id_ in self._known else now_ms

    # --- the loops

    async def _produce(self) -> None:
        while not self._stopping.is_set():
            try:
                if await self.claim_and_settle() == 0:
                    await self._stopped_within(self._timing.poll_s)
            except RedisError:
                await self._stopped_within(_PAUSE_AFTER_AN_ERROR_S)

    async def _lead(self) -> None:
        in_office, sweep_at_s = False, 0.0
        while not await self._stopped_within(self._timing.look_every_s):
            with contextlib.suppress(RedisError):
                if self.leads and not in_office:
                    await self.take_office()
                    sweep_at_s = time.monotonic() + self._timing.sweep_every_s
                elif self.leads and time.monotonic() >= sweep_at_s:
                    await self.sweep()
                    sweep_at_s = time.monotonic() + self._timing.sweep_every_s
                in_office = self.leads

    async def _listen(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(RedisError):
                async with self._redis.pubsub(ignore_subscribe_messages=True) as heard:
                    await heard.subscribe(*(EVENTS + kind for kind in ("created", "updated", "deleted")))
                    while not self._stopping.is_set():
                        if message := await heard.get_message(timeout=self._timing.poll_s):
                            await self.hear(message["channel"].decode(), message["data"])

    async def _every(self, seconds: float, do: Callable[[], Awaitable[None]], *, at_once: bool = False) -> None:
        while at_once or not await self._stopped_within(seconds):
            at_once = False
            with contextlib.suppress(RedisError):
                await do()

    async def _stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    async def _now_ms(self) -> int:
        seconds, micros = await self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000


def next_multiple(now_ms: int, interval_s: int) -> int:
    """Return the next multiple of the interval, in Unix ms: where every Go node puts every monitor."""
    period_ms = interval_s * 1000
    return (now_ms // period_ms + 1) * period_ms


def _payload(monitor: GoMonitor, now_ms: int) -> bytes:
    fields = msgspec.structs.asdict(monitor)
    del fields["active"]
    payload = {f"monitor_{name}" if name in {"id", "name", "type"} else name: value for name, value in fields.items()}
    instant = datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{now_ms % 1000:03}".rstrip("0").rstrip(".")
    payload |= {"scheduled_at": f"{instant}{fraction}Z", "is_under_maintenance": False, "check_cert_expiry": False}
    return json.dumps(payload, separators=(",", ":")).encode()


# --- in this process


@asynccontextmanager
async def go_client(redis_port: int) -> AsyncIterator[Redis]:
    """Connect as a Go node does."""
    async with Redis(
        host=HOST, port=redis_port, retry=Retry(NoBackoff(), 0), socket_timeout=5, client_name="go-producer"
    ) as client:
        yield client


@asynccontextmanager
async def go_producing(
    redis_port: int, database: Database, timing: GoTiming | None = None
) -> AsyncIterator[GoProducer]:
    """Run a Go node in this process for the duration of the block; it resigns at the end."""
    async with go_client(redis_port) as client:
        node = GoProducer(client, rows_at(place_of(database)), timing or GoTiming())
        async with asyncio.TaskGroup() as group:
            group.create_task(node.run())
            try:
                yield node
            finally:
                node.stop()


# --- as a process of its own


class GoOptions(Struct, frozen=True):
    """How such a process runs."""

    redis_port: int
    place: Place
    timing: GoTiming = GoTiming()


class GoProcess:
    """A Go node that can be killed and frozen."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Take what has been started."""
        self._process = process

    @property
    def id(self) -> str:
        """What it writes into the leader key."""
        return f"{socket.gethostname()}-{self._process.pid}"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def stop(self) -> int:
        """End it by SIGTERM, by force if it does not go; return its exit code."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                async with asyncio.timeout(_STOP_WITHIN_S):
                    return await self._process.wait()
            except TimeoutError:
                self._process.kill()
        return await self._process.wait()


@asynccontextmanager
async def go_started(redis_port: int, database: Database, timing: GoTiming | None = None) -> AsyncIterator[GoProcess]:
    """Start a Go node as a process for the duration of the block."""
    options = GoOptions(redis_port, place_of(database), timing or GoTiming())
    source = Path(peekaping_producer.__file__).parents[1]
    process = await asyncio.create_subprocess_exec(
        *killed_with_parent([sys.executable, "-m", "support.go_producer", msgspec.json.encode(options).decode()]),
        env={"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(source)]), "PATH": os.defpath},
        stdin=subprocess.DEVNULL,
    )
    node = GoProcess(process)
    try:
        yield node
    finally:
        await node.stop()


async def _serve(options: GoOptions) -> None:
    async with go_client(options.redis_port) as client:
        node = GoProducer(client, rows_at(options.place), options.timing)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, node.stop)
        await node.run()


if __name__ == "__main__":
    asyncio.run(_serve(msgspec.json.decode(sys.argv[1], type=GoOptions)))
