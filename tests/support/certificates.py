"""Certificates for servers that speak TLS, and for their clients, signed by an authority of the tests' own."""

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import trustme

from support.server_process import HOST


class Certificate(NamedTuple):
    """A certificate and its key, in PEM files."""

    path: Path
    key: Path


class Authority:
    """One authority. Only programs that are configured to trust it do."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.path = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.path)
        self.path.chmod(0o644)

    def issue(self, *names: str, user: str | None = None) -> Certificate:
        """Make a certificate for these host names and addresses, or for a user; everybody may read it.

        The servers run as other users.
        """
        issued = self._ca.issue_cert(*names, common_name=user)
        path, key = (self._folder / f"{user or names[0]}-{part}.pem" for part in ("certificate", "key"))
        for written, blob in ((path, issued.cert_chain_pems[0]), (key, issued.private_key_pem)):
            blob.write_to_path(written)
            written.chmod(0o644)
        return Certificate(path, key)


@cache
def database_authority() -> Authority:
    """Return the authority of all databases of this process."""
    folder = Path(tempfile.mkdtemp(prefix="authority-", dir="/tmp"))
    atexit.register(shutil.rmtree, folder)
    return Authority(folder)


def write_server_files(folder: Path, owner: tuple[int, int]) -> None:
    """Write `ca.pem`, `server.pem` and `server.key` for this machine's address, readable for their owner only.

    A server's folder gets them last: each process of a test run has an authority of its own.
    """
    authority = database_authority()
    certificate = authority.issue(HOST)
    for source, name in ((authority.path, "ca.pem"), (certificate.path, "server.pem"), (certificate.key, "server.key")):
        shutil.copy(source, folder / name)
        os.chown(folder / name, *owner)
        (folder / name).chmod(0o600)
