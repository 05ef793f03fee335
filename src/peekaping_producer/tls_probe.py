"""Whether a port that closed a plain connection speaks TLS."""

import asyncio
import contextlib
import ssl

_WITHIN_S = 1.0
TLS_ONLY = "that port speaks TLS only, which the producer does not use: name a port without TLS"


async def speaks_tls(host: str, port: int) -> bool:
    """Return whether a TLS handshake succeeds there, with any certificate. Nothing is sent over it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_WITHIN_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    except (OSError, TimeoutError, UnicodeError):  # UnicodeError: not a valid host name
        return False
    return True
