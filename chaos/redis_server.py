"""The Redis of a run: append-only, with backups, a clock that can be stepped, and a place to fail over to."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from unittest.mock import patch

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from peekaping_producer.demo.redis_server import HOST, RedisServer
from support.redis_clock import LIBRARY, RedisClock

# The machine never fails, only the process: what was written survives, as with `always` on a machine that may.
_CONFIG: Final = (
    *("--appendonly", "yes", "--appendfsync", "no"),
    *("--repl-diskless-sync-delay", "0", "--maxmemory-policy", "noeviction"),
)
_NEVER_REWRITTEN: Final = ("--auto-aof-rewrite-percentage", "0")
"""A backup is a copy of files, which must not change meanwhile."""
_READY_WITHIN_S: Final = 60.0
"""It may have much to read first."""
_AOF: Final = "appendonlydir"
_IN_STEP_WITHIN_S: Final = 10.0
HOUR_S: Final = 3600


class ChaosRedis:
    """One server that clients reach through `port`, which a failover changes."""

    def __init__(self, folder: Path, *, for_hours: bool = False) -> None:
        """Keep backups and the clock in `folder`; nothing runs yet.

        `for_hours`: what it has written stays small, and there are no backups.
        """
        self._folder = folder
        self._clock = RedisClock(folder / "clock")
        self._ahead_h = 0
        self._config = _CONFIG if for_hours else (*_CONFIG, *_NEVER_REWRITTEN)
        self._server = self._new_server()
        self._old: RedisServer | None = None
        self._backups: list[tuple[float, Path]] = []
        self._backups_made = 0

    def __enter__(self) -> Self:
        """Start it."""
        with self._own_clock():
            self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        self._server.stop()
        self.retire_old()

    @property
    def port(self) -> int:
        """The port of the server that is the primary now."""
        return self._server.port

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._server.pid

    @property
    def has_clock(self) -> bool:
        """Whether its clock can be stepped."""
        return LIBRARY is not None

    def client(self, timeout_s: float = 2.0) -> redis.Redis:
        """Return a client of its own, which bypasses the nodes' network."""
        return redis.Redis(host=HOST, port=self.port, retry=Retry(NoBackoff(), 0), socket_timeout=timeout_s)

    def kill(self) -> None:
        """End it at once; what was written is kept."""
        self._server.kill()

    def restart(self) -> None:
        """Start it again, with what was written."""
        with self._own_clock():
            self._server.restart()

    def back_up(self) -> None:
        """Copy what it has written so far."""
        self._backups_made += 1
        copy = self._folder / f"backup-{self._backups_made}"
        shutil.copytree(self._data, copy)
        self._backups.append((time.monotonic(), copy))

    def restore(self, age_s: float) -> float:
        """Start it again after a kill, from the backup whose age is closest to `age_s`; return that age."""
        made_s, copy = min(self._backups, key=lambda backup: abs(time.monotonic() - backup[0] - age_s))
        shutil.rmtree(self._data)
        shutil.copytree(copy, self._data)
        self.restart()
        return time.monotonic() - made_s

    def set_maxmemory(self, limit_bytes: int) -> None:
        """Limit its memory; 0: no limit."""
        with self.client() as client:
            client.config_set("maxmemory", limit_bytes)

    def step_clock(self) -> None:
        """Step its clock an hour ahead, or back if it is ahead."""
        self._ahead_h = 0 if self._ahead_h else 1
        self._clock.step(self._ahead_h * HOUR_S)

    def fail_over(self, *, demote: bool) -> None:
        """Make another server the primary, after it has caught up.

        The old one is demoted, which keeps its connections, or killed.
        """
        other = self._new_server()
        with self._own_clock():
            other.start()
        with redis.Redis(host=HOST, port=other.port) as replica:
            replica.replicaof(HOST, self.port)
            _until_in_step(replica)
            if not demote:
                self._server.kill()
            replica.replicaof("NO", "ONE")
        if demote:
            with self.client() as old:
                old.replicaof(HOST, other.port)
        self._old, self._server = self._server, other
        self._backups.clear()
        self.back_up()

    def retire_old(self) -> None:
        """End the server that was the primary before the failover."""
        if self._old is not None:
            self._old.stop()
            self._old = None

    def _new_server(self) -> RedisServer:
        return RedisServer(tcp=True, config=self._config, ready_within_s=_READY_WITHIN_S)

    @property
    def _data(self) -> Path:
        return self._server.unix_socket.parent / _AOF

    @contextmanager
    def _own_clock(self) -> Iterator[None]:
        preload = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._folder / "clock"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FMT": "%s",
            "TZ": "UTC",
        }
        with patch.dict(os.environ, preload if self.has_clock else {}):
            yield


def _until_in_step(replica: redis.Redis) -> None:
    give_up_s = time.monotonic() + _IN_STEP_WITHIN_S
    while replica.info("replication").get("master_link_status") != "up":
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"the replica is not in step within {_IN_STEP_WITHIN_S:g} s")
        time.sleep(0.01)
