"""TLS to Redis: what the settings ask for, and what an operator can do if it fails."""

import ssl

from peekaping_producer.config.fields import Switch
from peekaping_producer.config.redis_settings import RedisSettings
from peekaping_producer.config.tls_context import tls_context
from peekaping_producer.errors import one_line

_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME = frozenset({62, 64})
"""OpenSSL's codes of a certificate that cannot be verified."""
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})
_OUR_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE")
"""Parts of its names for what a server answers about the client's certificate."""


def tls_of(settings: RedisSettings) -> ssl.SSLContext | None:
    """Return what connections use, None without TLS. Raises ConfigurationError for a file that cannot be used."""
    if settings.redis_tls is Switch.OFF:
        return None
    return tls_context("REDIS_TLS", settings.redis_tls_ca, settings.redis_tls_cert, settings.redis_tls_key)


def tls_problem(error: BaseException | None, server: str, settings: RedisSettings) -> str | None:
    """Return the line for an operator if an error is one of TLS that only a person can fix; None if it is not."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error, server, settings)
    reason = error.reason or ""
    if reason in _NOT_TLS:
        return f"REDIS_TLS is on, and {server} does not speak TLS: set it to off, or name a port with TLS"
    if not any(part in reason for part in _OUR_CERTIFICATE):
        return None
    if settings.redis_tls_cert:
        return f"REDIS_TLS_CERT is refused by {server}, name a certificate that it trusts: {reason}"
    return f"REDIS_TLS_CERT is not set, and {server} requires a certificate: set it and REDIS_TLS_KEY"


def _untrusted(error: ssl.SSLCertVerificationError, server: str, settings: RedisSettings) -> str:
    said = one_line(error.verify_message)
    if error.verify_code in _OTHER_NAME:
        fix = "is for another name, set REDIS_TLS_SERVER_NAME to one that it holds"
    elif error.verify_code not in _UNKNOWN_AUTHORITY:
        fix = "is not valid, replace it"
    elif settings.redis_tls_ca:
        fix = "is not signed by an authority in REDIS_TLS_CA, name the right file"
    else:
        fix = "is signed by an authority that this system does not know, set REDIS_TLS_CA"
    return f"the certificate of {server} {fix}: {said}"
