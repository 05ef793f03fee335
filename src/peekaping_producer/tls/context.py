"""What a client needs for TLS, from the files that the settings name."""

import ssl
from pathlib import Path

from peekaping_producer.errors import ConfigurationError, one_line


def unverified_context() -> ssl.SSLContext:
    """Return a context that accepts any certificate. The system's authorities, which take 10 ms, are not loaded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def tls_context(
    prefix: str, ca: str | None, certificate: str | None, key: str | None, *, verify: bool = True
) -> ssl.SSLContext:
    """Return a context that checks servers by the authorities in `ca`, None for the system's, or not at all.

    `prefix` begins the names of the variables, such as `REDIS_TLS`. Raises ConfigurationError for a file that cannot be
    used.
    """
    for variable, path in ((f"{prefix}_CA", ca), (f"{prefix}_CERT", certificate), (f"{prefix}_KEY", key)):
        if path:
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise _unusable(variable, path, error.strerror or one_line(error)) from error
    try:
        context = ssl.create_default_context(cafile=ca) if verify or ca else unverified_context()
    except ssl.SSLError as error:
        raise _unusable(f"{prefix}_CA", ca, "it must hold certificates in PEM") from error
    if certificate:
        try:
            # An encrypted key would ask for its password on the terminal.
            context.load_cert_chain(certificate, key, password="")
        except ssl.SSLError as error:
            beside = repr(key) if key else "the same file"
            wanted = f"it must hold a PEM certificate, and {beside} its key, unencrypted"
            raise _unusable(f"{prefix}_CERT", certificate, wanted) from error
    return context


def _unusable(variable: str, path: str | None, reason: str) -> ConfigurationError:
    return ConfigurationError(f"{variable} is {path!r}, which can't be used: {reason}")
