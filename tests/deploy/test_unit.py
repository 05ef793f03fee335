"""The unit of systemd, in a Debian that a real systemd has booted."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis

from peekaping_producer.asynq.keys import PENDING
from peekaping_producer.demo.redis_server import HOST, RedisServer
from support.container import ROOT
from support.databases import PostgresDatabase, monitor_row, sqlite_copy
from support.fleet import addressed
from support.http import client_of
from support.server_process import free_port
from support.waiting import until

pytestmark = [pytest.mark.image, pytest.mark.timeout(600, func_only=True)]
UNIT = ROOT / "deploy" / "systemd" / "peekaping-producer.service"
SERVICE = UNIT.stem
UID = 10001
BOOT = ("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--volatile=overlay", "--boot")


class Machine:
    """A booted Debian, on this host's network."""

    def __init__(self, process: "subprocess.Popen[bytes]", console: Path) -> None:
        self.console = console
        self._process = process

    def run(self, *command: str) -> str:
        """Run a command in it as root; return its output."""
        init = psutil.Process(self._process.pid).children()
        if not init:
            return "not booted yet"
        inside = ("nsenter", f"--target={init[0].pid}", "--all", "--", *command)
        done = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout + done.stderr

    async def until_running(self) -> None:
        """Wait until it has booted."""
        await until(lambda: "running" in self.run("systemctl", "is-system-running"), self.console.read_text)

    def end(self) -> None:
        """Shut it down."""
        self.run("systemctl", "poweroff")
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            for process in psutil.Process(self._process.pid).children(recursive=True):
                process.kill()
            self._process.kill()
            self._process.wait()

    def has(self, **properties: str) -> bool:
        """Return whether the service has these properties."""
        shown = self.run("systemctl", "show", SERVICE, "--property", ",".join(properties)).splitlines()
        return sorted(shown) == sorted(f"{name}={value}" for name, value in properties.items())

    @property
    def log(self) -> str:
        """The journal of the service."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={SERVICE}")


@contextmanager
def booted(image: Path, folder: Path, **mounted: Path) -> Iterator[Machine]:
    """Boot the image with the folders `system`, which has the unit, `etc`, which configures it, and `data`."""
    console = folder / "console"
    places = {"system": "/usr/local/lib/systemd/system", "etc": f"/etc/{SERVICE}", "data": "/srv/peekaping"}
    mounts = [f"--bind={path}:{places[name]}" for name, path in mounted.items()]
    with console.open("wb") as out:
        process = subprocess.Popen(
            [*BOOT, *mounts, f"--directory={image}"], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    machine = Machine(process, console)
    try:
        yield machine
    finally:
        machine.end()


async def test_the_service_starts_is_watched_and_ends_in_order(
    image: Path, empty_postgres_db: PostgresDatabase, own_redis_server: RedisServer, tmp_path: Path
) -> None:
    await empty_postgres_db.insert("monitors", *(monitor_row(interval=1) for _ in range(3)))
    # A shorter watchdog than the unit's, and what it has in comments: HTTP and the password of Redis.
    unit = UNIT.read_text(encoding="utf-8").replace("WatchdogSec=20", "WatchdogSec=7")
    unit = unit.replace("\n#LoadCredential", "\nLoadCredential").replace("\n#Environment", "\nEnvironment")
    system, etc = tmp_path / "system", tmp_path / "etc"
    system.mkdir()
    etc.mkdir()
    (system / UNIT.name).write_text(unit)
    port = free_port()
    variables = addressed(empty_postgres_db, own_redis_server.port) | {"REDIS_HOST": HOST, "MODE": "prod"}
    variables |= {"PRODUCER_HTTP_PORT": str(port)}
    (etc / "db-pass").write_text(f"{variables.pop('DB_PASS')}\n")
    (etc / "redis-password").write_text("hush\n")
    for secret in etc.iterdir():
        secret.chmod(0o600)
    environment = "".join(f"{name}={value}\n" for name, value in variables.items())
    (etc / "environment").write_text(environment)

    async with Redis(host=HOST, port=own_redis_server.port) as redis:
        await redis.config_set("requirepass", "hush")
        with booted(image, tmp_path, system=system, etc=etc) as machine:
            await machine.until_running()
            assert machine.run("systemctl", "start", SERVICE) == "", machine.log
            await until(lambda: redis.llen(PENDING), lambda: machine.log)
            assert machine.has(ActiveState="active", NRestarts="0", Type="notify"), machine.log
            async with client_of(port) as client:
                await client.until_reason("/readyz")

            machine.run("systemctl", "kill", "--signal=STOP", "--kill-whom=main", SERVICE)
            await until(lambda: machine.has(ActiveState="active", NRestarts="1"), lambda: machine.log)
            assert "Watchdog timeout" in machine.log

            assert machine.run("systemctl", "stop", SERVICE) == ""
            assert machine.has(ActiveState="inactive", Result="success", ExecMainStatus="0"), machine.log
            assert "producer stopped" in machine.log

            (etc / "environment").write_text(environment.replace("DB_TYPE=postgres", "DB_TYPE=postres"))
            machine.run("systemctl", "start", SERVICE)
            wrong = {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "2"}
            assert machine.has(**wrong, NRestarts="0"), machine.log
            assert "hush" not in machine.log


SQLITE = """
[Service]
DynamicUser=no
PrivateUsers=no
User=producer
ReadWritePaths=/srv/peekaping
"""
"""What docs/install.md says to set for SQLite; the image has this user."""


async def test_the_service_reads_an_sqlite_file_that_its_user_owns(
    image: Path, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    system, etc, data = tmp_path / "system", tmp_path / "etc", tmp_path / "data"
    for folder in (system / f"{UNIT.name}.d", etc, data):
        folder.mkdir(parents=True)
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    (system / UNIT.name).write_text("\n".join(line for line in lines if "db-pass" not in line))
    (system / f"{UNIT.name}.d" / "sqlite.conf").write_text(SQLITE)
    database = sqlite_copy(data, rows=False)
    await database.insert("monitors", monitor_row(interval=1))
    variables = {"DB_TYPE": "sqlite", "DB_NAME": f"/srv/peekaping/{database.path.name}"}
    variables |= {"REDIS_HOST": HOST, "REDIS_PORT": str(redis_server.port)}
    (etc / "environment").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    for path in (data, *data.iterdir()):
        os.chown(path, UID, UID)

    with booted(image, tmp_path, system=system, etc=etc, data=data) as machine:
        await machine.until_running()
        assert machine.run("systemctl", "start", SERVICE) == "", machine.log
        await until(lambda: redis.llen(PENDING), lambda: machine.log)
        assert machine.run("systemctl", "stop", SERVICE) == ""
