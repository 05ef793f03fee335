"""A server of MongoDB's protocol for tests: SecantusDB, with authentication on. A process apart, never imported."""

import socket
import sys
from pathlib import Path

import pytest
from pymongo import MongoClient

from support.server_process import HOST, ServerProcess


class Secantus(ServerProcess):
    """One SecantusDB server. Small data: it reads some 1,600 documents a second."""

    name = "Secantus"
    prepared_once = True
    user = "root"
    password = "r00t:of/the@tests%"
    replica_set: str | None = None
    """The name of the set of which it says that it is the only member."""

    def kill(self) -> None:
        """End it gracefully, since it would lose what was written to it; `restart` brings it back with its data."""
        self._end(self.stop_signal)

    def _runner(self) -> tuple[int, int]:
        """It runs as anybody, and must find this Python's packages."""
        return self._ourselves()

    def _prepare(self) -> None:
        # Users can be made only while nobody needs to be one.
        self._launch()
        client: MongoClient[dict[str, object]]
        with MongoClient(HOST, self.port) as client:
            client.admin.command("createUser", self.user, pwd=self.password, roles=["root"])
        self._end(self.stop_signal)
        (self.folder / "with-users").touch()

    def _command(self) -> list[str]:
        address = ["--host", HOST, "--port", str(self.port), "--storage-path", str(self.folder / "data")]
        auth = ["--auth"] if (self.folder / "with-users").exists() else []
        alone = [] if self.replica_set else ["--standalone"]
        if sys.version_info >= (3, 14):
            pytest.skip("SecantusDB has no wheel for Python 3.14")
        program = Path(sys.executable).parent / "secantusd-py"
        return [sys.executable, str(program), *address, *alone, "--log-level", "ERROR", *auth]

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((HOST, self.port)) == 0


class ReplicaSet(Secantus):
    """A replica set of one member."""

    name = "Replica-Secantus"
    replica_set = "secantus"
