"""Exceptions that nobody foresaw: one monitor's harms that monitor alone, and a loop's ends neither it nor the node."""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, cast
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from peekaping_producer import app as app_module
from peekaping_producer import leader as leader_package
from peekaping_producer.asynq import keys
from peekaping_producer.catalog import rows as catalog_rows
from peekaping_producer.catalog.last_known import LastKnown
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.dispatch.source import Source
from peekaping_producer.errors import CorruptRecord, Unavailable
from peekaping_producer.leader import event_queue, events, queue_watch
from peekaping_producer.leader.changes import ChangeReader
from peekaping_producer.leader.event_message import DELETED
from peekaping_producer.model.monitor import Proxy
from peekaping_producer.node import redis_watch
from peekaping_producer.node.outage import Outage
from peekaping_producer.preflight import start as preflight_start
from peekaping_producer.redisdb.client import load_script
from peekaping_producer.redisdb.keys import DUE, LEADER, LEASE
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.timing import Timing
from support.databases import SqliteDatabase, link_row, maintenance_row, monitor_row
from support.faulty_redis import faulty_redis
from support.log_capture import Line
from support.producer import InProcess, producing
from support.waiting import until

FAILURES = ("loop failed, restarting", "leader task failed, restarting")
SKIPPED = "monitor skipped on error"


class _BrokenZone(ZoneInfo):
    """A time zone whose file is broken in a way no one has thought of."""

    def utcoffset(self, _when: datetime | None) -> Any:
        raise RuntimeError("broken zone")


async def test_a_monitor_that_can_not_be_planned_is_skipped_and_the_others_go_on(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis
) -> None:
    """The culprit is always claimed first: it is the one longest overdue."""
    monitors = [monitor_row(interval=1) for _ in range(5)]
    culprit, *others = [row["id"] for row in monitors]
    maintenance = maintenance_row(
        strategy="single",
        start_date_time="2026-01-01T00:00",
        end_date_time="2026-01-02T00:00",
        timezone="SAME_AS_SERVER",
    )
    await empty_sqlite_db.insert("monitors", *monitors)
    await empty_sqlite_db.insert("maintenances", maintenance)
    await empty_sqlite_db.insert("monitor_maintenances", link_row(culprit, maintenance["id"]))
    await redis.zadd(DUE, {culprit: 1} | dict.fromkeys(others, 2))

    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=redis_server.port)
    settings = settings.model_copy(update={"tz": _BrokenZone("UTC")})
    async with producing(settings, Timing(sweep_every_s=0.2, share=0)) as producer:
        await until(lambda: _are_pending(redis, others))
        # The sweep brings it back, and it is planned again, and again.
        await until(
            lambda: len(producer.logged("sweep finished")) >= 3, lambda: str(producer.lines[:12] + producer.lines[-12:])
        )
        assert await _pending(redis) == set(others)

    (line,) = producer.logged(SKIPPED)
    assert line["monitor"] == culprit
    assert line["level"] == "error"
    assert line["exception"].endswith("RuntimeError: broken zone")
    (reasons,) = [line["reasons"] for line in producer.lines if "reasons" in line]
    assert "unexpected RuntimeError at test_unexpected_exceptions.py" in reasons[culprit]
    assert [line for line in producer.logged("summary") if line["checks"].get("invalid", 0) >= 2]
    assert not _failures(producer)
    assert await redis.zcard(LEASE) == 0


async def _pending(redis: Redis) -> set[str]:
    tasks = cast("list[bytes]", await redis.lrange(keys.PENDING, 0, -1))
    return {task.decode().removeprefix("healthcheck:") for task in tasks}


async def _are_pending(redis: Redis, ids: Sequence[str]) -> bool:
    return set(ids) <= await _pending(redis)


def test_a_row_that_can_not_be_converted_is_invalid_and_the_others_are_read() -> None:
    def prepare(rows: list[list[Any]]) -> None:
        if any(row[0] == "b" for row in rows):
            raise LookupError("no one thought of this")
        catalog_rows.PROXIES.prepare(rows)

    kind = replace(catalog_rows.PROXIES, prepare=prepare)
    first, second, third = catalog_rows.values(kind, [(id_, "http", "host", 1, 0, None, None) for id_ in "abc"])
    assert (cast("Proxy", first).id, cast("Proxy", third).id) == ("a", "c")
    assert isinstance(second, CorruptRecord)
    assert second.reason.startswith("proxy's unexpected LookupError at test_unexpected_exceptions.py")


# --- loops


QUICK = Timing(
    claim_wait_s=0.05,
    lease_ms=500,
    reclaim_every_s=0.05,
    sweep_every_s=0.1,
    share=0,
    election_every_s=0.05,
    heartbeat_every_s=0.05,
    summary_every_s=0.05,
    queue_every_s=0.05,
    changes_every_s=0.05,
    invalid_every_s=0.05,
    cache_watch_s=0.05,
    keys_every_s=0.05,
    remind_every_s=0.2,
    warn_after_s=0.05,
    retry_first_s=0.01,
    retry_cap_s=0.05,
)
SEVEN = b":7\r\n"
NO_TIME = b":7\r\n:7\r\n*0\r\n*2\r\n$1\r\nx\r\n$1\r\ny\r\n"
"""Of the last of several commands, so that no reply is left for the next ones."""
TEXT = b"$8\r\nnonsense\r\n"
CASES: dict[str, tuple[str | tuple[str, ...], bytes]] = {
    "claim, dispatch": (("schedule", "time", "writable", "step", "go_node", "lease", "paused", "claim"), SEVEN),
    "settle, dispatch": (("schedule", "time", "writable", "task", "settle"), SEVEN),
    "reclaim, reclaim": (("schedule", "time", "reclaim"), TEXT),
    "extend, election": (("leader", "left", "extend"), SEVEN),
    "list invalid, heartbeat": ("HLEN", TEXT),
    "overview, summary": ("ZCARD\r\n$19\r\npeekaping:sched:due", NO_TIME),
    "subscribe, signals": ("SUBSCRIBE", SEVEN),
    "subscribe, listen": ("SUBSCRIBE", SEVEN),
    "members, sweep": ("ZSCAN", SEVEN),
    "watch invalid, invalid": ("HGETALL", SEVEN),
}
"""What is asked of Redis by which loop; the script or command, and the lie."""


@pytest.mark.parametrize("case", CASES)
async def test_a_loop_that_fails_is_started_again_and_keeps_no_other_from_its_work(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, case: str
) -> None:
    """Redis' replies are nothing that Redis ever sends, so that our own code raises what nobody foresaw."""
    (what, lie), loop = CASES[case], case.partition(", ")[2]
    about = what if isinstance(what, str) else load_script(redis, f"peekaping_producer.{what[0]}", *what[1:]).sha
    await empty_sqlite_db.insert("monitors", *(monitor_row(interval=1) for _ in range(5)), monitor_row(interval=0))
    async with faulty_redis(redis_server.port) as faulty:
        settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=faulty.port)
        async with producing(settings, QUICK) as producer:
            await until(lambda: _has_tasks(redis, 5))
            faulty.answer_wrongly(about, lie)
            await redis.client_kill_filter(_type="pubsub")
            await until(
                lambda: any(line["loop"] == loop for line in _failures(producer)), lambda: str(producer.lines[-5:])
            )
            wrong_before = faulty.wrong_replies
            await until(lambda: faulty.wrong_replies >= wrong_before + 10)
            faulty.forward_all()

            await redis.delete(keys.PENDING, *[key async for key in redis.scan_iter(f"{keys.TASK}*")])
            await until(lambda: _has_tasks(redis, 5))
            await until(lambda: _is_led(redis))
    lines = _failures(producer)
    assert {line["loop"] for line in lines} <= {loop, "signals", "listen", "skipped"}
    assert len(lines) == len({(line["loop"], line["exception"]) for line in lines}), "each kind once"
    assert len(lines) <= 3


def _failures(producer: InProcess) -> list[Line]:
    return [line for event in FAILURES for line in producer.logged(event)]


_raised: Counter[str] = Counter()
"""How often by task, and tasks have the names of their loops."""


def _raise(*_arguments: object, **_options: object) -> NoReturn:
    task = asyncio.current_task()
    _raised[task.get_name() if task else ""] += 1
    raise LookupError("no one thought of this")


def _unavailable(*_arguments: object, **_options: object) -> NoReturn:
    raise Unavailable("database", "gone")


BROKEN: dict[str, tuple[tuple[object, str, object], ...]] = {
    "cache": ((LastKnown, "size_bytes", property(_raise)),),
    "changes": ((ChangeReader, "poll_once", _raise),),
    "connections": ((redis_watch, "drop_connections", _raise),),
    "events": ((event_queue, "islice", _raise),),
    "keys": ((Schedule, "repair", _raise),),
    "probe": ((Source, "_answer", _unavailable), (Source, "_probe", _raise)),
    "queue": ((queue_watch, "queue_state", _raise),),
    "reminders": ((Outage, "remind", _raise),),
    "removal": ((events, "islice", _raise),),
    "warnings": ((preflight_start, "read_redis", _raise),),
}
"""What is broken of ours, for the loops that no reply of Redis makes fail."""
ONCE = "warnings"
"""The loop that does its work once, at the start: it must be broken before."""


def _break(loop: str, patch: pytest.MonkeyPatch) -> None:
    for place, name, broken in BROKEN[loop]:
        patch.setattr(place, name, broken)


@pytest.mark.parametrize("loop", BROKEN)
async def test_a_loop_whose_own_code_fails_is_started_again_and_keeps_no_other_from_its_work(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, loop: str
) -> None:
    _raised.clear()
    await empty_sqlite_db.insert("monitors", *(monitor_row(interval=1) for _ in range(5)))
    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=redis_server.port)
    with pytest.MonkeyPatch.context() as patch:
        if loop == ONCE:
            _break(loop, patch)
        async with producing(settings, QUICK) as producer:
            await until(lambda: _has_tasks(redis, 5))
            if loop != ONCE:
                _break(loop, patch)
            if loop == "removal":
                await redis.publish(DELETED, f'{{"type": "monitor.deleted", "payload": "{monitor_row()["id"]}"}}')
            try:
                # A loop that fails again has been started again.
                for times in range(1, 4):
                    if loop == "connections":  # it works when an outage begins, and when one ends
                        await redis.config_set("maxmemory", times % 2)
                    await until(lambda times=times: _raised[loop] >= times, lambda: str(producer.lines[-5:]))  # type: ignore[misc]
            finally:
                await redis.config_set("maxmemory", 0)
            patch.undo()
            await until(lambda: any(line["loop"] == loop for line in _failures(producer)))
            await redis.delete(keys.PENDING, *[key async for key in redis.scan_iter(f"{keys.TASK}*")])
            await until(lambda: _has_tasks(redis, 5))
            await until(lambda: _is_led(redis))
    lines = _failures(producer)
    assert {line["loop"] for line in lines} <= {loop, "events", "removal"}
    assert all(line["exception"].endswith("LookupError: no one thought of this") for line in lines)
    assert len(lines) == len({line["loop"] for line in lines}), "each kind once"


def test_every_loop_is_in_one_of_these_tests() -> None:
    app = Path(app_module.__file__).read_text()
    leader = "".join(path.read_text() for path in Path(leader_package.__file__).parent.glob("*.py"))
    loops = {*re.findall(r'keep\("(\w+)"', app), *re.findall(r'Duty\("(\w+)"', leader)}
    assert loops == BROKEN.keys() | {case.partition(", ")[2] for case in CASES}


async def _has_tasks(redis: Redis, count: int) -> bool:
    return await redis.llen(keys.PENDING) == count


async def _is_led(redis: Redis) -> bool:
    return bool(await redis.exists(LEADER))
