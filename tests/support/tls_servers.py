"""Servers that speak TLS only."""

import datetime as dt
import os
import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.certificates import Authority, write_server_files
from support.postgres import Postgres
from support.secantus import Secantus
from support.sentinels import Sentinel
from support.server_process import HOST, ServerProcess, listens

CERTIFICATE_USER = "certificate_user"
"""The user who needs a client certificate."""


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for localhost and its key into a folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    form, no_password = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, no_password))
    for path in paths:
        path.chmod(0o644)  # the server may run as another user
    return paths


class TlsRedis(ServerProcess):
    """Debian's Redis on a port that speaks TLS only."""

    name = "TLS-Redis"

    def __init__(self, authority: Authority, name: str = "localhost", *options: str) -> None:
        """Take the authority that signs, the name in the server's certificate, and more options of the server."""
        super().__init__()
        self._authority = authority.path
        self._certificate = authority.issue(name)
        self._options = options

    def _prepare(self) -> None:
        for path in (self._authority, *self._certificate):
            shutil.copy(path, self.folder)

    def _command(self) -> list[str]:
        program = shutil.which("redis-server")
        assert program is not None
        return [
            program,
            *("--port", "0", "--tls-port", str(self.port), "--bind", HOST, "--save", "", "--dir", str(self.folder)),
            *("--tls-cert-file", self._certificate.path.name, "--tls-key-file", self._certificate.key.name),
            *("--tls-ca-cert-file", self._authority.name),
            *self._options,
        ]

    def _answers(self) -> bool:
        return listens(self.port)


class TlsSentinel(Sentinel):
    """Debian's Sentinel, which watches a primary by TLS and speaks nothing else itself."""

    name = "TLS-Sentinel"

    def __init__(self, primary: TlsRedis, authority: Authority) -> None:
        super().__init__(primary.port, 1, "tls-auth-clients no", "tls-replication yes")
        self._authority, self._certificate = authority.path, authority.issue("localhost")

    def _prepare(self) -> None:
        super()._prepare()
        certificate = f"tls-cert-file {self._certificate.path}\ntls-key-file {self._certificate.key}"
        with (self.folder / "sentinel.conf").open("a") as options:
            options.write(f"\nport 0\ntls-port {self.port}\ntls-ca-cert-file {self._authority}\n{certificate}\n")

    def _program(self) -> str:
        return shutil.which("redis-server") or ""


class TlsSecantus(Secantus):
    """A server of MongoDB's protocol on a port that speaks TLS only; users play no part."""

    name = "TLS-Secantus"
    prepared_once = False

    def _prepare(self) -> None:
        make_certificate(self.folder)

    def _command(self) -> list[str]:
        certificate, key = str(self.folder / "certificate.pem"), str(self.folder / "key.pem")
        return [*super()._command(), "--tls-cert-file", certificate, "--tls-key-file", key]


class TlsPostgres(Postgres):
    """Debian's Postgres, which lets in nobody without TLS, and CERTIFICATE_USER only by a client certificate."""

    name = "TLS-Postgres"

    def _fill(self) -> None:
        super()._fill()
        write_server_files(self.folder, self._runner())

    def _prepare(self) -> None:
        super()._prepare()
        access = f"hostssl all {CERTIFICATE_USER} all cert\nhostssl all all all trust\n"
        (self.folder / "data" / "pg_hba.conf").write_text(access)

    def _command(self) -> list[str]:
        files = {"ssl_ca_file": "ca.pem", "ssl_cert_file": "server.pem", "ssl_key_file": "server.key"}
        settings = {"ssl": "on"} | {name: str(self.folder / file) for name, file in files.items()}
        return [*super()._command(), *(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))]

    def _binaries(self) -> Path:
        found = _debian_postgres()
        assert found
        return found


def need_debian_postgres() -> None:
    """Skip where Debian's Postgres is not installed; CI has it. The wheel's has no TLS."""
    if _debian_postgres() is None:
        reason = "no Postgres with TLS here: install the package postgresql"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def _debian_postgres() -> Path | None:
    """Return the folder of its newest programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def need_redis_server() -> None:
    """Skip where Debian's Redis is not installed; CI has it."""
    if shutil.which("redis-server") is None:
        reason = "no redis-server here: install the package redis-server"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
