"""What went wrong with TLS, from OpenSSL's codes and names, when only a person can fix it."""

import ssl
from enum import Enum, auto

_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME = frozenset({62, 64})
"""Codes of a certificate that cannot be verified."""
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})
_OUR_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE")
"""Parts of OpenSSL's names for what a server answers about the client's certificate."""


class TlsFault(Enum):
    """Why two sides do not agree."""

    OTHER_NAME = auto()
    """The server's certificate is for other names or addresses."""
    UNKNOWN_AUTHORITY = auto()
    """It is not signed by an authority that the client trusts."""
    INVALID = auto()
    """It has expired, is not valid yet, or is wrong in another way."""
    NO_TLS = auto()
    """The server does not speak TLS."""
    CLIENT_CERTIFICATE = auto()
    """The server requires a certificate of the client's, or rejects the one that it was shown."""


def tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return the error of TLS from which an error came; None if there is none."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def tls_fault(error: ssl.SSLError) -> TlsFault | None:
    """Return what went wrong; None if it may be transient."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_NAME:
            return TlsFault.OTHER_NAME
        return TlsFault.UNKNOWN_AUTHORITY if error.verify_code in _UNKNOWN_AUTHORITY else TlsFault.INVALID
    reason = error.reason or ""
    if reason in _NO_TLS:
        return TlsFault.NO_TLS
    return TlsFault.CLIENT_CERTIFICATE if any(part in reason for part in _OUR_CERTIFICATE) else None
