"""A node is alive while its claim loop turns, whatever is unavailable; its file and the service manager show it."""

import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from redis.asyncio import Redis

from peekaping_producer.clock import monotonic_s
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.errors import ConfigurationError
from peekaping_producer.fleet.registry import Registry
from peekaping_producer.node.alive_file import AliveFile, turned_ago_s
from peekaping_producer.node.service_manager import notify
from peekaping_producer.redisdb.keys import DUE
from peekaping_producer.timing import Timing
from support.databases import PostgresDatabase, SqliteDatabase, monitor_row
from support.fleet import addressed
from support.postgres import Postgres
from support.producer import producing, run_here, run_to_the_end, started
from support.waiting import until

SQLITE = {"DB_TYPE": "sqlite", "DB_NAME": "peekaping.db"}


@pytest.fixture
def alive(tmp_path: Path) -> Path:
    return tmp_path / "alive"


async def until_written_twice(file: Path) -> None:
    """Wait until a node has written its file twice from now on."""
    for _ in range(2):
        text = file.read_text() if file.exists() else ""
        await until(partial(_differs, file, text), "alive")


def _differs(file: Path, text: str) -> bool:
    return file.exists() and file.read_text() != text


# --- the file, and the probe that reads it


@pytest.mark.long
async def test_a_node_is_alive_whatever_is_unavailable(
    own_db: PostgresDatabase, own_postgres_server: Postgres, own_redis_server: RedisServer, tmp_path: Path, alive: Path
) -> None:
    await own_db.insert("monitors", monitor_row(interval=1))
    variables = addressed(own_db, own_redis_server.port) | {"PRODUCER_ALIVE_FILE": alive}
    own_redis_server.pause()
    async with started(tmp_path, **variables) as producer:
        await producer.until_logged("redis unavailable")
        await until_written_twice(alive)
        own_redis_server.resume()
        await producer.until_logged("batches settled", times=2)
        own_postgres_server.pause()
        own_redis_server.pause()
        await producer.until_logged("redis unavailable", times=2)
        await until_written_twice(alive)
        assert run_to_the_end(tmp_path, "probe", PRODUCER_ALIVE_FILE=alive).code == 0
        own_redis_server.resume()
        own_postgres_server.resume()
        await producer.until_logged("redis recovered", times=2)
        assert await producer.stop() == 0
    assert not alive.exists()


async def test_a_node_whose_claim_loop_is_frozen_is_not_alive(
    own_db: PostgresDatabase, own_postgres_server: Postgres, redis_server: RedisServer, redis: Redis, alive: Path
) -> None:
    """A batch that waits half a minute for the database freezes the only worker, but not the event loop."""
    await own_db.insert("monitors", monitor_row(interval=1))
    timing = Timing(lease_ms=60_000, heartbeat_every_s=0.1, turns_reported_every_s=0.05)
    settings = own_db.settings(
        redis_host=HOST, redis_port=redis_server.port, producer_concurrency=1, producer_alive_file=str(alive)
    )
    registry = Registry(redis, timing)
    async with producing(settings, timing) as producer:
        await producer.until_logged("leadership taken")
        await until(lambda: redis.zcard(DUE))
        own_postgres_server.pause()
        await until(lambda: turned_ago_s(alive) > 2, "the claim loop is frozen")
        (node,) = await registry.seen()
        assert node.last_seen_ms > 0
        redis_s, _ = await redis.time()
        assert redis_s * 1000 - node.last_seen_ms < 1000, "the event loop is frozen as well"
        own_postgres_server.resume()
        await until(lambda: turned_ago_s(alive) < 1, "the claim loop turns again")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/alive", "No such file or directory"),
        ("folder", "Is a directory"),
        ("fifo", "No such device or address"),
        ("link", "Too many levels of symbolic links"),
    ],
)
def test_a_file_that_can_not_be_written_is_a_wrong_setting(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    path = tmp_path / name
    with pytest.raises(ConfigurationError) as caught:
        AliveFile(str(path), pytest.fail)
    assert caught.value.problems == (f"PRODUCER_ALIVE_FILE '{path}' can't be written: {reason}",)


def test_a_file_that_can_not_be_written_ends_the_start(tmp_path: Path) -> None:
    ended = run_to_the_end(tmp_path, "run", **SQLITE, PRODUCER_ALIVE_FILE=tmp_path)
    assert (ended.code, ended.problems) == (2, [f"PRODUCER_ALIVE_FILE '{tmp_path}' can't be written: Is a directory"])


async def test_a_file_that_can_not_be_written_any_more_is_logged_once(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    alive = folder / "alive"
    timing = Timing(turns_reported_every_s=0.02, claim_wait_s=0.02)
    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=redis_server.port, producer_alive_file=str(alive))
    async with producing(settings, timing) as producer:
        await producer.until_logged("leadership taken")
        folder.rename(tmp_path / "moved")
        line = await producer.until_logged("alive file not written")
        assert (line["file"], line["reason"]) == (str(alive), "No such file or directory")
        folder.mkdir()
        await until(alive.exists)
    assert len(producer.logged("alive file not written")) == 1


@pytest.mark.parametrize(
    ("text", "code", "out"),
    [
        (f"{monotonic_s() + 10**6:020.3f}\n", 1, "not alive: {path} is older than the last restart of this host\n"),
        ("0000000000000000.001\n", 1, None),
        ("x", 1, "not alive: {path} was not written by a producer\n"),
        ("", 1, "not alive: {path} was not written by a producer\n"),
        (None, 1, "not alive: {path} does not exist: no producer runs, or it is just starting\n"),
    ],
    ids=["from before a boot", "old", "other", "empty", "missing"],
)
def test_the_probe_says_why_a_node_is_not_alive(
    tmp_path: Path, alive: Path, text: str | None, code: int, out: str | None
) -> None:
    if text is not None:
        alive.write_text(text)
    ended = run_here(tmp_path, "probe", PRODUCER_ALIVE_FILE=alive)
    assert (ended.code, ended.err) == (code, "")
    if out is None:
        assert ended.out.startswith("not alive: the loops last ran ")
    else:
        assert ended.out == out.format(path=alive)


def test_the_probe_reads_the_env_file_too(tmp_path: Path, alive: Path) -> None:
    (tmp_path / ".env").write_text(f"PRODUCER_ALIVE_FILE={alive}\n")
    assert "does not exist" in run_here(tmp_path, "probe").out
    assert (
        run_here(tmp_path, "probe", PRODUCER_ALIVE_FILE=tmp_path).out
        == f"not alive: {tmp_path} can't be read: Is a directory\n"
    )


def test_the_probe_needs_the_variable(tmp_path: Path) -> None:
    ended = run_here(tmp_path, "probe")
    problem = "peekaping-producer: PRODUCER_ALIVE_FILE is not set: set it for `run` and `probe` alike\n"
    assert (ended.code, ended.out, ended.err) == (2, "", problem)


# --- the service manager


class Manager:
    """What systemd is to a service of Type=notify: a socket for its states."""

    def __init__(self, address: str) -> None:
        self.states: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(address.replace("@", "\0", 1))

    def close(self) -> None:
        self._socket.close()

    def received(self, state: str) -> int:
        """Return how often a state has arrived so far."""
        try:
            while True:
                self.states.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return self.states.count(state)


@contextmanager
def service_manager(address: str) -> Iterator[Manager]:
    manager = Manager(address)
    yield manager
    manager.close()


def test_the_service_manager_may_listen_on_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"@notify-{secrets.token_hex(8)}"
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with service_manager(address) as manager:
        notify("READY=1")
        assert manager.received("READY=1") == 1
    notify("STOPPING=1")  # nobody listens any more


@pytest.mark.parametrize("address", ["", "vsock:2:1234"])
def test_a_service_manager_elsewhere_is_not_notified(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with patch.object(socket, "socket", pytest.fail):
        notify("READY=1")


async def test_the_service_manager_is_notified(
    empty_sqlite_db: SqliteDatabase, own_redis_server: RedisServer, tmp_path: Path
) -> None:
    own_redis_server.pause()
    address = str(tmp_path / "notify")
    variables = addressed(empty_sqlite_db, own_redis_server.port) | {"NOTIFY_SOCKET": address}
    with service_manager(address) as manager:
        async with started(tmp_path, **variables) as producer:
            await producer.until_logged("redis unavailable")
            assert manager.received("READY=1") == 0, "not ready without Redis"
            own_redis_server.resume()
            await until(lambda: manager.received("READY=1"))
            await until(lambda: manager.received("WATCHDOG=1") >= 2)
            producer.signal(signal.SIGTERM)
            assert await producer.ended() == 0
        assert manager.received("STOPPING=1") == 1
        fed = manager.states.count("WATCHDOG=1")
        assert manager.states == ["READY=1", *["WATCHDOG=1"] * fed, "STOPPING=1"]
