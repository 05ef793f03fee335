"""The limits of a herd: the settle script alone, driven from C, and reading the rows alone."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import ClassVar
from zoneinfo import ZoneInfo

import msgspec
from redis import Redis as BlockingRedis
from redis.asyncio import ConnectionPool, Redis, UnixDomainSocketConnection

from benchmarks.database import TESTS, Database, settings_of
from benchmarks.figures import Case, Role, figure, rate
from benchmarks.herd import RATE, case_name
from benchmarks.part import HERD_INTERVAL_S, KINDS, Bench, Part
from benchmarks.rows import RowsRead
from peekaping_producer.asynq import keys as asynq
from peekaping_producer.catalog.catalog import open_catalog
from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.dispatch.plan import plan
from peekaping_producer.model.cadence import Spacing
from peekaping_producer.redisdb.keys import DUE, LEASE
from peekaping_producer.schedule.orders import Claim, Order
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.timing import Timing

BLAST = Path(__file__).parent / "blast.c"
LAST_REPLY = b"+PONG\r\n"
LONG_LEASE_MS = 600_000
"""All claims are made before the first settle is sent."""
_READ = "monitors_read"


def measure(bench: Bench) -> Iterator[Case]:
    """Settle the whole herd from C, then read all of its rows from each kind of database."""
    size, monitors = bench.size, bench.size.monitors[0]
    database = bench.database("postgres", monitors, HERD_INTERVAL_S)
    note = "" if shutil.which("cc") else "driven from Python, which costs a little too: there is no C compiler"
    settled = [measure_settle(database) for _ in range(size.rounds)]
    yield Case(_settle_name(monitors), {RATE: rate(settled, "≥ 110,000")}, Role.LIMIT, note)
    for kind in KINDS:
        database = bench.database(kind, monitors, HERD_INTERVAL_S)
        read = [measure_rows(database) for _ in range(size.rounds)]
        driver = {_READ: rate([one.driver_per_s for one in read])}
        catalog = {_READ: rate([one.catalog_per_s for one in read])}
        yield Case(f"{kind}, bare driver alone, {monitors:,} monitors", driver, Role.LIMIT)
        yield Case(_catalog_name(kind, monitors), catalog, Role.LIMIT)


PART = Part("ceiling", "the settle script alone, from C; reading the rows alone", 35, measure)


def shares(measured: Sequence[Case], monitors: int) -> Iterator[Case]:
    """Compare the herds of one node with the limits of the same run, as far as both were measured."""
    rates = {case.name: next(iter(case.figures.values())).median for case in measured if case.figures}
    for kind in KINDS:
        herd = rates.get(case_name(kind, monitors, 1))
        limits = {
            "of_the_settle_script_alone": rates.get(_settle_name(monitors)),
            "of_the_catalog_alone": rates.get(_catalog_name(kind, monitors)),
        }
        figures = {name: figure(100 * herd / limit, "%") for name, limit in limits.items() if herd and limit}
        if figures:
            yield Case(f"{kind}, herd of {monitors:,} monitors", figures)


def _settle_name(monitors: int) -> str:
    return f"settle script alone, {monitors:,} monitors"


def _catalog_name(kind: str, monitors: int) -> str:
    return f"{kind}, catalog alone, {monitors:,} monitors"


def measure_rows(database: Database) -> RowsRead:
    """Read the rows of the whole herd in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.rows"],
        env={"PATH": os.environ["PATH"], **database.settings},
        cwd=TESTS.parent,
        input=msgspec.json.encode(database.ids),
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=RowsRead)


def measure_settle(database: Database) -> float:
    """Claim all, encode every settle call as the producer would send it, then send them in one go.

    Returns checks per second.
    """
    with RedisServer() as server, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        commands = asyncio.run(_settle_commands(server.unix_socket, database))
        blast = _compile(Path(folder))
        if blast:
            file = Path(folder) / "commands"
            file.write_bytes(commands)
            done = subprocess.run([blast, server.unix_socket, file], check=True, stdout=subprocess.PIPE)
            seconds = int(done.stdout) / 1e9
        else:
            seconds = _send(server.unix_socket, commands)
        with BlockingRedis(unix_socket_path=str(server.unix_socket)) as redis:
            placed = redis.llen(asynq.PENDING)
    if placed != len(database.ids):
        raise RuntimeError(f"{placed} of {len(database.ids)} monitors were settled")
    return int(placed) / seconds


class _Recording(UnixDomainSocketConnection):
    """A connection that keeps what it sends."""

    sent: ClassVar[list[bytes]] = []

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's
        parts = [command] if isinstance(command, bytes) else [command.encode()] if isinstance(command, str) else command
        packed = b"".join(parts)
        self.sent.append(packed)
        await super().send_packed_command(packed, check_health)


async def _settle_commands(unix_socket: Path, database: Database) -> bytes:
    """Settle all once and keep the bytes, then put Redis back to where all were claimed: the bytes fit again."""
    timing = Timing(lease_ms=LONG_LEASE_MS)
    pool = ConnectionPool(connection_class=_Recording, path=str(unix_socket), max_connections=1)
    async with Redis.from_pool(pool) as redis:
        await redis.zadd(DUE, dict.fromkeys(database.ids, 1))
        schedule = Schedule(redis, timing)
        batches = await _claim_all(schedule, database, timing.batch)
        leases = await redis.dump(LEASE) or b""
        # Nothing to settle: loads the script, so that every command from here on is one settle.
        await schedule.settle(batches[0][0], [])
        _Recording.sent.clear()
        for claim, orders in batches:
            await schedule.settle(claim, orders)
        commands = b"".join(_Recording.sent)
        await redis.flushdb()
        await redis.restore(LEASE, 0, leases)
    return commands + b"PING\r\n"


async def _claim_all(schedule: Schedule, database: Database, batch: int) -> list[tuple[Claim, list[Order]]]:
    zone, batches = ZoneInfo("UTC"), []
    catalog = open_catalog(settings_of(database), connections=1, timeout_s=60)
    try:
        while (claim := await schedule.claim(batch)).claimed:
            reading = await catalog.read([claimed.id for claimed in claim.claimed])
            batches.append((claim, plan(claim, reading, zone, Spacing.SPREAD, release_ms=0).orders))
    finally:
        await catalog.close()
    return batches


def _compile(folder: Path) -> Path | None:
    compiler, program = shutil.which("cc"), folder / "blast"
    if compiler is None:
        return None
    subprocess.run([compiler, "-O2", "-o", program, BLAST], check=True)
    return program


def _send(unix_socket: Path, commands: bytes) -> float:
    """Do in Python what blast.c does."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(str(unix_socket))
        started_s, tail = time.perf_counter(), b""
        sender = Thread(target=server.sendall, args=(commands,))
        sender.start()
        while tail != LAST_REPLY:
            got = server.recv(1 << 20)
            if not got:
                raise ConnectionError("Redis hung up")
            tail = (tail + got)[-len(LAST_REPLY) :]
        sender.join()
        return time.perf_counter() - started_s
