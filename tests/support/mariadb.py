"""A real MariaDB for tests: the server that is installed on this machine, run on a folder of our own.

MariaDB refuses to run as root: started by root, it runs as `nobody`. Where `PEEKAPING_TEST_MYSQL_URL` names a server
(`mysql://USER:PASSWORD@HOST:PORT`, with every right), that one is used instead; tests that stop one start their own.
"""

import os
import shutil
import socket
from typing import Protocol
from urllib.parse import unquote, urlsplit

from support.certificates import write_server_files
from support.server_process import HOST, ServerProcess

URL_VARIABLE = "PEEKAPING_TEST_MYSQL_URL"
_INIT = """\
CREATE OR REPLACE USER root@'%' IDENTIFIED BY '{password}';
GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
DROP USER IF EXISTS root@localhost, root@'127.0.0.1', root@'::1';
"""
_OPTIONS = {
    "bind-address": HOST,
    "skip-name-resolve": "1",
    "skip-log-bin": "1",
    # Written at each commit, but left to the system: a killed server keeps it.
    "innodb-flush-log-at-trx-commit": "2",
    "innodb-doublewrite": "0",
    "innodb-buffer-pool-size": "32M",
    "innodb-log-file-size": "16M",
    "innodb-stats-persistent": "0",
    "max-connections": "50",
    "max-allowed-packet": "64M",
    # Neither a zone nor a character set of the server's may matter.
    "default-time-zone": "+05:30",
    "character-set-server": "latin1",
}
_TLS_FILES = {"ssl-ca": "ca.pem", "ssl-cert": "server.pem", "ssl-key": "server.key"}


class MySQLServer(Protocol):
    """Where a server is, and who has all rights on it."""

    host: str
    user: str
    password: str
    templates: set[str]

    @property
    def port(self) -> int:
        """Its TCP port."""


class GivenMySQL:
    """A server that somebody else runs."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or HOST
        self.port = parts.port or 3306
        self.user = unquote(parts.username or "root")
        self.password = unquote(parts.password or "")
        self.templates: set[str] = set()


class MariaDB(ServerProcess):
    """One MariaDB server of our own."""

    name = "MariaDB"
    prepared_once = True
    host = HOST
    user = "root"
    password = "r00t-of-the-tests"

    def __init__(self, *, tls: bool = True) -> None:
        """Choose whether it offers TLS; only users who were created to require TLS need it."""
        super().__init__()
        self._tls = tls

    @property
    def unix_socket(self) -> str:
        """The path of its Unix socket."""
        return str(self.folder / "s.sock")

    def _fill(self) -> None:
        super()._fill()
        write_server_files(self.folder, self._runner())

    def _prepare(self) -> None:
        self._done(
            installed("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={self.folder}/data",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        )
        (self.folder / "init.sql").write_text(_INIT.format(password=self.password))

    def _command(self) -> list[str]:
        files = {"init-file": "init.sql"} | (_TLS_FILES if self._tls else {})
        options = _OPTIONS | {"port": str(self.port)} | {name: f"{self.folder}/{file}" for name, file in files.items()}
        return [
            installed("mariadbd"),
            "--no-defaults",
            f"--datadir={self.folder}/data",
            f"--socket={self.unix_socket}",
            f"--pid-file={self.folder}/pid",
            *(f"--{name}={value}" for name, value in options.items()),
        ]

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            try:
                probe.connect((HOST, self.port))
                # It greets once it is ready; before, the port is closed.
                return len(probe.recv(5)) == 5
            except OSError:
                return False


def missing() -> str | None:
    """Return why no server of our own can be started, None if one can."""
    if shutil.which("mariadbd", path=_path()) and shutil.which("mariadb-install-db", path=_path()):
        return None
    return f"no MariaDB here: install the package mariadb-server-core, or set {URL_VARIABLE}"


def installed(program: str) -> str:
    """Return the path of a program of MariaDB's server."""
    found = shutil.which(program, path=_path())
    assert found, f"{program} is not installed"
    return found


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin:/usr/libexec"
