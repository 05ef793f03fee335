"""MongoDB's client: how the settings lead to a server, and whether TLS is why none answers."""

import struct
from typing import Any
from urllib.parse import quote_plus

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConfigurationError as WrongOption
from pymongo.errors import InvalidName, InvalidURI
from pymongo.uri_parser import split_hosts

from peekaping_producer import APPLICATION
from peekaping_producer.catalog.encryption import NO_TLS, TLS_ONLY, context_of, tls_fix
from peekaping_producer.catalog.limits import CONNECT_TIMEOUT_S
from peekaping_producer.config.settings import ENCRYPTING, VERIFYING, DbTls, Settings
from peekaping_producer.errors import ConfigurationError, one_line
from peekaping_producer.tls.probe import answers_without_tls, speaks_tls, tls_refusal

_GREETING = b"\0\0\0\0\0" + bson.encode({"hello": 1, "$db": "admin"})
_HELLO = struct.pack("<4i", 16 + len(_GREETING), 1, 0, 2013) + _GREETING
"""A first message to a server: length, number, what it answers, OP_MSG, and a section with a document."""
Document = dict[str, Any]
TOLERANT: CodecOptions[Document] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="surrogateescape"
)
"""One date beyond year 9999, or one text that is not UTF-8, must not fail the whole fetch."""


def open_client(
    settings: Settings, connections: int, timeout_s: float, *, password: str, tls: bool
) -> AsyncMongoClient[Document]:
    """Return a client with a pool of at most `connections`; nothing is connected yet.

    Raises ConfigurationError for an invalid DB_HOST or DB_TLS_* file.
    """
    timeout_ms = int(timeout_s * 1000)
    try:
        client: AsyncMongoClient[Document] = AsyncMongoClient(
            f"mongodb://{_address(settings)}/",
            # Not in the address, so that no text of an error can show them.
            username=settings.db_user,
            password=password,
            authSource=settings.db_auth_source or "admin",
            replicaSet=settings.db_replica_set,
            appname=APPLICATION,
            maxPoolSize=connections,
            waitQueueTimeoutMS=timeout_ms,
            socketTimeoutMS=timeout_ms,
            # Half of a deadline, so that a refused connection is reported as such and not as a timeout.
            serverSelectionTimeoutMS=min(timeout_ms, int(CONNECT_TIMEOUT_S * 1000)) // 2,
            connectTimeoutMS=min(timeout_ms, int(CONNECT_TIMEOUT_S * 1000)),
            retryReads=False,
            **(_tls_options(settings) if tls else {}),
        )
    except (InvalidURI, WrongOption, ValueError) as error:
        raise ConfigurationError(f"DB_HOST is {settings.db_host!r}: {one_line(error)}") from error
    if settings.db_tls_cert and settings.db_tls_key and (context := client.options.pool_options._ssl_context):  # noqa: SLF001
        # The driver's options allow only one file for both.
        context.load_cert_chain(settings.db_tls_cert, settings.db_tls_key)
    return client


def _tls_options(settings: Settings) -> dict[str, Any]:
    """Return the driver's options. Raises ConfigurationError for a wrong file, in better words than the driver."""
    context_of(settings)
    options: dict[str, Any] = {"tls": True}
    if settings.db_tls not in VERIFYING:
        options["tlsAllowInvalidCertificates"] = True
    elif settings.db_tls is not DbTls.VERIFY_FULL:
        options["tlsAllowInvalidHostnames"] = True
    if settings.db_tls_ca:
        options["tlsCAFile"] = settings.db_tls_ca
    if settings.db_tls_cert and not settings.db_tls_key:
        options["tlsCertificateKeyFile"] = settings.db_tls_cert
    return options


def open_database(client: AsyncMongoClient[Document], name: str) -> AsyncDatabase[Document]:
    """Return the database of this name; raises ConfigurationError for a DB_NAME that MongoDB does not allow."""
    try:
        return client.get_database(name, codec_options=TOLERANT)
    except InvalidName as error:
        raise ConfigurationError(f"DB_NAME is {name!r}: {one_line(error)}. Set the right one") from error


async def offers_tls(settings: Settings) -> bool:
    """Return whether a server in DB_HOST speaks TLS; False if none answers."""
    for host, port in _servers(settings):
        if await speaks_tls(host, port):
            return True
    return False


async def tls_problem(settings: Settings) -> str | None:
    """Return what an operator must do if TLS is the reason why no server answers; None if it is not."""
    for host, port in _servers(settings):
        where = f"DB_HOST is {host!r}, DB_PORT is {port}"
        if settings.db_tls in ENCRYPTING:
            error = await tls_refusal(host, port, context_of(settings), host)
            fix = tls_fix(error)
            if fix:
                return f"{where}: {fix}: {one_line(error)}"
            if await answers_without_tls(host, port, _HELLO):
                return f"{where}: {NO_TLS}"
        elif settings.db_tls is not DbTls.PREFER and await speaks_tls(host, port):
            return f"{where}: {TLS_ONLY}"
    return None


def _servers(settings: Settings) -> list[tuple[str, int]]:
    """Return the hosts and ports in DB_HOST, without Unix sockets."""
    return [(host, port) for host, port in split_hosts(_address(settings)) if port is not None]


def _address(settings: Settings) -> str:
    """Return host and port as in a URI; several hosts with commas are left as they are."""
    host = settings.db_host or ""
    if host.startswith("/"):
        return quote_plus(host)
    is_ipv6 = host.count(":") > 1 and "," not in host and "[" not in host
    return f"[{host}]:{settings.db_port}" if is_ipv6 else f"{host}:{settings.db_port}"
