"""A real PgBouncer in transaction mode for tests, where it is installed."""

import os
import shutil
import socket

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
pool_mode = transaction
default_pool_size = 3
server_round_robin = 1
auth_type = any
logfile = {folder}/pgbouncer.log
"""


class PgBouncer(ServerProcess):
    """One PgBouncer before a Postgres server: each transaction may run in another of three sessions."""

    name = "PgBouncer"

    def __init__(self, postgres: Postgres) -> None:
        super().__init__()
        self._postgres = postgres

    def _prepare(self) -> None:
        config = _CONFIG.format(
            host=HOST, port=self.port, upstream=self._postgres.port, user=SUPERUSER, folder=self.folder
        )
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
