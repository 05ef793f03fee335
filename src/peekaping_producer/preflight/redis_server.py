"""What Redis says of itself: kind, role, persistence, eviction, latency, and how far its clock is off this host's."""

import time
from collections.abc import Awaitable, Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from peekaping_producer.asynq.keys import PENDING
from peekaping_producer.capacity.memory import shortage
from peekaping_producer.clock import now_utc
from peekaping_producer.preflight.finding import Area, Finding, Level
from peekaping_producer.redisdb.client import answered
from peekaping_producer.redisdb.keys import DUE, LEASE
from peekaping_producer.redisdb.memory import KEEPS_ALL, Memory, memory_of

_SAMPLES = 5
_SLOW_MS = 100.0
"""Each check takes several round trips: from here on, they make it late by half a second."""
_CLOCK_OFF_S = 1.0
_KINDS = {"valkey_version": "Valkey", "dragonfly_version": "Dragonfly", "redis_version": "Redis"}
"""The field of INFO that only this kind has, those that imitate Redis first."""


class RedisServer(Struct, frozen=True):
    """What was read."""

    kind: str
    version: str
    role: str
    """`master` or `slave`."""
    replicas: int
    memory: Memory
    monitors: int
    """In the schedule."""
    tasks: int
    """In the queue."""
    append_only: bool | None
    """None if it could not be read, as in the next field."""
    save: str | None
    """The rule for snapshots; empty for none."""
    latency_ms: float
    """Of the fastest of five round trips: a slower one may have waited for this process."""
    clock_ahead_s: float
    """How far Redis' clock is ahead of this host's; negative if it is behind."""


async def read_redis(redis: Redis, timeout_s: float) -> RedisServer:
    """Read what the server says. Raises Unavailable if it does not answer in time."""
    async with answered(timeout_s):
        info = await redis.info()
        memory = memory_of(info)
        if memory.policy is None:
            memory = replace(memory, policy=await _configured(redis, "maxmemory-policy"))
        monitors = await _length(redis.zcard(DUE)) + await _length(redis.zcard(LEASE))
        tasks = await _length(redis.llen(PENDING))
        save = await _configured(redis, "save")
        latency_s, clock_ahead_s = min([await _round_trip(redis) for _ in range(_SAMPLES)])
    field, kind = next((field, kind) for field, kind in _KINDS.items() if field in info)
    return RedisServer(
        kind=kind,
        version=str(info[field]),
        role=str(info.get("role", "")),
        replicas=int(info.get("connected_slaves", 0)),
        memory=memory,
        monitors=monitors,
        tasks=tasks,
        append_only=bool(info["aof_enabled"]) if "aof_enabled" in info else None,
        save=save,
        latency_ms=latency_s * 1000,
        clock_ahead_s=clock_ahead_s,
    )


async def _length(reply: Awaitable[int]) -> int:
    """Return how many a key holds; 0 if it is of another type, which is reported elsewhere, or may not be read."""
    try:
        return await reply
    except ResponseError:
        return 0


async def _configured(redis: Redis, name: str) -> str | None:
    """Return a setting of the server; None if it does not show it, as managed servers do."""
    try:
        reply: dict[Any, Any] = await redis.config_get(name)
    except ResponseError:
        return None
    values = [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in reply.values()]
    return values[0] if values else None


async def _round_trip(redis: Redis) -> tuple[float, float]:
    """Return how long a command takes, and how far Redis' clock is ahead of this host's (s)."""
    began_s, now = time.perf_counter(), now_utc()
    seconds, micros = await redis.time()
    took_s = time.perf_counter() - began_s
    return took_s, seconds + micros / 1e6 - now.timestamp() - took_s / 2


def redis_findings(server: RedisServer) -> Iterator[Finding]:
    """Return what there is to say about a server."""
    yield _found("server", f"{server.kind} {server.version} answers")
    yield _role(server)
    yield _policy(server.memory)
    yield _memory(server)
    yield _persistence(server)
    latency = f"a command takes {server.latency_ms:.1f} ms"
    if server.latency_ms < _SLOW_MS:
        yield _found("latency", latency)
    else:
        yield _warned("latency", latency, "run the producer nearer to Redis: each check waits for several commands")
    yield _clock(server.clock_ahead_s)


def _role(server: RedisServer) -> Finding:
    if server.role == "slave":
        what = "this server is a replica, which accepts no writes: point the settings to the primary"
        return Finding(Area.REDIS, "role", Level.WRONG, what)
    replicas = f", {server.replicas} connected {'replica' if server.replicas == 1 else 'replicas'}"
    return _found("role", f"it is the primary{replicas if server.replicas else ''}")


def _policy(memory: Memory) -> Finding:
    name = "maxmemory-policy"
    if risk := memory.risk():
        return _warned(name, risk, f"set {name} {KEEPS_ALL}")
    if memory.policy is None:
        return _found(name, f"{name} could not be read; it should be {KEEPS_ALL}")
    return _found(name, f"{name} is {KEEPS_ALL}")


def _memory(server: RedisServer) -> Finding:
    short = shortage(server.memory, server.monitors, server.tasks)
    if short:
        return _warned("memory", short, "raise maxmemory")
    limit = f"of {server.memory.limit_bytes / 1e6:,.0f} MB" if server.memory.limit_bytes else "and maxmemory is not set"
    return _found("memory", f"it uses {server.memory.used_bytes / 1e6:,.0f} MB {limit}")


def _persistence(server: RedisServer) -> Finding:
    kinds = [
        *(["appendonly"] if server.append_only else []),
        *([f"snapshots (save {server.save})"] if server.save else []),
    ]
    if kinds:
        return _found("persistence", f"data is saved by {' and '.join(kinds)}")
    if server.append_only is None or server.save is None:
        return _found("persistence", "could not read whether data is saved")
    return _warned(
        "persistence",
        "data is not saved: a restart of Redis loses waiting checks, and the schedule until a leader has rebuilt it",
        "set appendonly yes",
    )


def _clock(ahead_s: float) -> Finding:
    if abs(ahead_s) <= _CLOCK_OFF_S:
        return _found("clock", f"its clock differs from this host's by {abs(ahead_s) * 1000:.0f} ms")
    return _warned(
        "clock",
        f"its clock is {abs(ahead_s):,.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this host's",
        "synchronise the clocks of both hosts, for example by NTP",
    )


def _found(topic: str, what: str) -> Finding:
    return Finding(Area.REDIS, topic, Level.OK, what)


def _warned(topic: str, what: str, to_do: str) -> Finding:
    return Finding(Area.REDIS, topic, Level.WARNING, what, to_do)
