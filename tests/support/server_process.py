"""A database server for tests: a process of ours on this machine only, that is gone when we are."""

import atexit
import contextlib
import fcntl
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
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

HOST = "127.0.0.1"

_READY_WITHIN_S = 30.0
_STOP_WITHIN_S = 5.0
_PORTS = range(20_000, 32_768)
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 << 30
"""What all servers of a whole run need at most, several times over."""
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


def data_root() -> Path:
    """Return where servers keep their data: in memory if there is room, as they make thousands of small files."""
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    return _MEMORY if roomy else Path("/tmp")


PREPARED_IN = "PEEKAPING_TEST_PREPARED"
"""The variable that names the folder of what servers begin with, which the processes of a test run share."""


@cache
def _prepared() -> Path:
    """Return the folder of what servers begin with: the test run's, or this process's."""
    if folder := os.environ.get(PREPARED_IN):
        return Path(folder)
    own = Path(tempfile.mkdtemp(prefix="prepared-", dir=data_root()))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own


class ServerProcess(ABC):
    """One server, from `with` to the end of the block; its data goes with it."""

    name: str
    """What messages call it."""
    stop_signal = signal.SIGTERM
    """Ends it gracefully."""
    kill_signal = signal.SIGKILL
    """Ends it at once, with all its processes."""
    prepared_once = False
    """Whether what `_prepare` makes serves every server of this class; then it is made once, and copied."""

    def __init__(self) -> None:
        self.templates: set[str] = set()
        """The databases made to be copied, by those who made them."""
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        self._port = 0

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix=f"{self.name.lower()}-", dir=data_root()))
        try:
            os.chown(self._folder, *self._runner())
            self._port = free_port()
            self._fill()
            self._launch()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def _fill(self) -> None:
        """Fill the folder: by a copy of what the first server of this class was given, where that will do."""
        if not self.prepared_once:
            self._prepare()
            return
        prepared = _prepared() / type(self).__name__
        with prepared.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not prepared.exists():
                self._prepare()
                unfinished = prepared.with_suffix(".unfinished")
                unfinished.mkdir()
                _copy(self.folder, unfinished)
                unfinished.rename(prepared)
                return
        _copy(prepared, self.folder)

    @abstractmethod
    def _prepare(self) -> None:
        """Make what the server needs in its folder."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """Return the server's command line; it runs in its folder."""

    @abstractmethod
    def _answers(self) -> bool:
        """Return whether it takes connections."""

    def _runner(self) -> tuple[int, int]:
        """Return the user and group to run as: most servers refuse to run as root."""
        if os.geteuid() != 0:
            return self._ourselves()
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid

    @staticmethod
    def _ourselves() -> tuple[int, int]:
        return os.geteuid(), os.getegid()

    @property
    def port(self) -> int:
        """Its TCP port on 127.0.0.1; the same until the end, restarts included."""
        return self._port

    @property
    def folder(self) -> Path:
        """Its folder, with its data and its Unix socket."""
        assert self._folder is not None
        return self._folder

    @property
    def pid(self) -> int:
        """The process id of its first process."""
        assert self._process is not None
        return self._process.pid

    def pause(self) -> None:
        """Freeze the server and every process of it: connections stay open and nothing is answered."""
        self._paused = True
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # backends come and go
                process.suspend()

    def resume(self) -> None:
        """Let it go on after `pause`."""
        if not self._paused:
            return
        self._paused = False
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def kill(self) -> None:
        """End it at once, as a crash would; `restart` brings it back with its data."""
        self._end(self.kill_signal)

    def stop(self) -> None:
        """End it gracefully; `restart` brings it back with all its data."""
        self._end(self.stop_signal)

    def restart(self) -> None:
        """Start it again at the same port; a running one is stopped first."""
        self.stop()
        self._launch()

    def _launch(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._as_runner(*self._command()),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=self._environment(),
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self._end(self.kill_signal)
            raise

    def _as_runner(self, *command: str) -> list[str]:
        """Return a command that runs `command` as the runner, and ends it with us."""
        own = [str(os.getpid()), *map(str, self._runner())]
        return [sys.executable, "-I", "-S", "-c", _LAUNCH, *own, *command]

    def _done(self, *command: str) -> None:
        """Run a command to its end as the runner."""
        done = subprocess.run(
            self._as_runner(*command),
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
            env=self._environment(),
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]}: code {done.returncode}: {done.stderr}{done.stdout}")

    def _environment(self) -> dict[str, str]:
        """Return the environment; MariaDB, at its start, sweeps the folder for temporary files, others' files too."""
        return os.environ | {"HOME": str(self.folder), "TMPDIR": str(self.folder)}

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + _READY_WITHIN_S
        while not self._answers():
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} ended at its start (code {process.returncode}): {self._last_words()}")
            if time.monotonic() > give_up:
                raise RuntimeError(f"{self.name} is not ready within {_READY_WITHIN_S:g} s: {self._last_words()}")
            time.sleep(0.005)

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

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
        self._end(self.kill_signal)
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None


def _copy(source: Path, target: Path) -> None:
    """Copy a folder's contents with their owners."""
    subprocess.run(["cp", "-a", f"{source}/.", target], check=True)


def free_port() -> int:
    """Return a port that nobody listens on."""
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


def listens(port: int) -> bool:
    """Return whether something takes connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
