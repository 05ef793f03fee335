"""A real PgBouncer for tests, where it is installed."""

import os
import shutil
import socket
from typing import Literal

import pytest

from support.postgres import SUPERUSER, Postgres
from support.server_process import HOST, ServerProcess

_CONFIG = """\
[databases]
* = host={host} port={upstream} user={user}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
pool_mode = {mode}
default_pool_size = {size}
server_round_robin = {round_robin}
auth_type = any
logfile = {folder}/pgbouncer.log
"""


Mode = Literal["transaction", "session"]


class PgBouncer(ServerProcess):
    """One PgBouncer before a Postgres server.

    In transaction mode each transaction may run in another of three sessions, in session mode each client has its own.
    """

    name = "PgBouncer"

    def __init__(self, postgres: Postgres, mode: Mode = "transaction", *, round_robin: bool = True) -> None:
        super().__init__()
        self.mode = mode
        self._postgres = postgres
        self._pool = {"mode": mode, "size": 3 if mode == "transaction" else 20, "round_robin": int(round_robin)}

    def _prepare(self) -> None:
        where = {"host": HOST, "port": self.port, "upstream": self._postgres.port, "folder": self.folder}
        config = _CONFIG.format(**where, **self._pool, user=SUPERUSER)
        (self.folder / "pgbouncer.ini").write_text(config)

    def _command(self) -> list[str]:
        program = _installed()
        assert program is not None
        return [program, "pgbouncer.ini"]

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((HOST, self.port)) == 0


def need_pgbouncer() -> None:
    """Skip where it is not installed; CI has it."""
    if _installed() is None:
        reason = "no PgBouncer here: install the package pgbouncer"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def _installed() -> str | None:
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
