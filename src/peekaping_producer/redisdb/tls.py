"""TLS to Redis: what the settings ask for, and what an operator can do if it fails."""

import ssl

from peekaping_producer.config.fields import Switch
from peekaping_producer.config.redis_settings import RedisSettings
from peekaping_producer.errors import one_line
from peekaping_producer.tls.context import tls_context
from peekaping_producer.tls.fault import TlsFault, tls_error, tls_fault


def tls_of(settings: RedisSettings) -> ssl.SSLContext | None:
    """Return what connections use, None without TLS. Raises ConfigurationError for a file that cannot be used."""
    if settings.redis_tls is Switch.OFF:
        return None
    return tls_context("REDIS_TLS", settings.redis_tls_ca, settings.redis_tls_cert, settings.redis_tls_key)


def tls_problem(error: BaseException | None, server: str, settings: RedisSettings) -> str | None:
    """Return the line for an operator if an error is one of TLS that only a person can fix; None if it is not."""
    cause = tls_error(error)
    if cause is None:
        return None
    match tls_fault(cause):
        case None:
            return None
        case TlsFault.NO_TLS:
            return f"REDIS_TLS is on, and {server} does not speak TLS: set it to off, or name a port with TLS"
        case TlsFault.CLIENT_CERTIFICATE if settings.redis_tls_cert:
            return f"REDIS_TLS_CERT is refused by {server}, name a certificate that it trusts: {cause.reason}"
        case TlsFault.CLIENT_CERTIFICATE:
            return f"REDIS_TLS_CERT is not set, and {server} requires a certificate: set it and REDIS_TLS_KEY"
        case TlsFault.OTHER_NAME:
            fix = "is for another name, set REDIS_TLS_SERVER_NAME to one that it holds"
        case TlsFault.INVALID:
            fix = "is not valid, replace it"
        case TlsFault.UNKNOWN_AUTHORITY if settings.redis_tls_ca:
            fix = "is not signed by an authority in REDIS_TLS_CA, name the right file"
        case TlsFault.UNKNOWN_AUTHORITY:
            fix = "is signed by an authority that this system does not know, set REDIS_TLS_CA"
    said = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else cause
    return f"the certificate of {server} {fix}: {one_line(said)}"
