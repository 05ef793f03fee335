"""TLS to a database server: what the settings ask of any driver, and what an operator can do if it fails."""

import ssl

from peekaping_producer.config.settings import VERIFYING, DbTls, Settings
from peekaping_producer.tls.context import tls_context
from peekaping_producer.tls.fault import TlsFault, tls_error, tls_fault

TLS_ONLY = "the server at DB_HOST speaks TLS only, set DB_TLS=require, verify-ca or verify-full"
NO_TLS = "the server at DB_HOST offers no TLS, turn it on there or set DB_TLS=off"
CERTIFICATE_REJECTED = "does the server accept the certificate in DB_TLS_CERT?"
"""For a connection that was closed: what the server says about the certificate may be lost with it."""
_FIXES = {
    TlsFault.OTHER_NAME: "the certificate of the server at DB_HOST is for another host, set DB_HOST to a name in it, or"
    " DB_TLS=verify-ca",
    TlsFault.UNKNOWN_AUTHORITY: "the certificate of the server at DB_HOST is not signed by a known authority, set"
    " DB_TLS_CA to the file of the one that signed it",
    TlsFault.INVALID: "the certificate of the server at DB_HOST is not valid, replace it, or correct this host's clock",
    TlsFault.NO_TLS: NO_TLS,
    TlsFault.CLIENT_CERTIFICATE: "the server at DB_HOST requires a client certificate that it trusts, set DB_TLS_CERT",
}


def context_of(settings: Settings) -> ssl.SSLContext:
    """Return the context for DB_TLS and its files. Raises ConfigurationError for a wrong file."""
    verify = settings.db_tls in VERIFYING
    context = tls_context("DB_TLS", settings.db_tls_ca, settings.db_tls_cert, settings.db_tls_key, verify=verify)
    context.check_hostname = settings.db_tls is DbTls.VERIFY_FULL
    if not verify:
        context.verify_mode = ssl.CERT_NONE
    return context


def tls_fix(error: BaseException | None) -> str | None:
    """Return what an operator must do about a handshake that failed; None if it is not the cause of an error."""
    cause = tls_error(error)
    fault = tls_fault(cause) if cause else None
    return _FIXES[fault] if fault else None
