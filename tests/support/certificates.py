"""Certificates for servers that speak TLS, and for their clients, signed by an authority of the tests' own."""

from pathlib import Path
from typing import NamedTuple

import trustme


class Certificate(NamedTuple):
    """A certificate and its key, in PEM files."""

    path: Path
    key: Path


class Authority:
    """One authority. Nobody trusts it but who is told to."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.path = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.path)
        self.path.chmod(0o644)

    def issue(self, *names: str) -> Certificate:
        """Make a certificate for these host names and addresses; everybody may read it, as servers run as others."""
        issued = self._ca.issue_cert(*names)
        path, key = (self._folder / f"{names[0]}-{part}.pem" for part in ("certificate", "key"))
        for written, blob in ((path, issued.cert_chain_pems[0]), (key, issued.private_key_pem)):
            blob.write_to_path(written)
            written.chmod(0o644)
        return Certificate(path, key)
