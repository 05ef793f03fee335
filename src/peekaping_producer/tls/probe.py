"""Whether a port speaks TLS, after a connection of the other kind has failed."""

import asyncio
import contextlib
import ssl

from peekaping_producer.tls.context import unverified_context

_WITHIN_S = 1.0


async def speaks_tls(host: str, port: int) -> bool:
    """Return whether a TLS handshake succeeds there, with any certificate. Nothing is sent over it."""
    context = unverified_context()
    try:
        async with asyncio.timeout(_WITHIN_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    except (OSError, TimeoutError, UnicodeError):  # UnicodeError: not a valid host name
        return False
    return True


async def answers_without_tls(host: str, port: int, request: bytes) -> bool:
    """Return whether a server sends anything if it gets `request` without TLS."""
    try:
        async with asyncio.timeout(_WITHIN_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request)
                return bool(await reader.read(1))
            finally:
                writer.close()
    except (OSError, TimeoutError, UnicodeError):
        return False


async def tls_refusal(host: str, port: int, context: ssl.SSLContext, name: str) -> ssl.SSLError | None:
    """Return why a server ends a TLS connection on which nothing is sent; None if it does not.

    A client that sends something may see only that the connection is closed.
    """
    try:
        async with asyncio.timeout(_WITHIN_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
            try:
                await reader.read(1)
            finally:
                writer.close()
    except ssl.SSLError as error:
        return error
    except (OSError, TimeoutError, UnicodeError):
        return None
    return None
