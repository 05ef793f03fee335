"""A server that terminates TLS in front of a port of this machine. Each connection has a thread of its own."""

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseRequestHandler, ThreadingTCPServer

from support.certificates import database_authority
from support.server_process import HOST

_CHUNK_BYTES = 1 << 14


@contextmanager
def tls_before(port: int, *, client_certificates: bool = False) -> Iterator[int]:
    """Yield a port that speaks TLS only, with `client_certificates` only with clients that present one.

    SecantusDB speaks TLS itself, but while one handshake hangs it accepts nobody else; asyncio's servers give no client
    the reason why they reject its certificate.
    """
    authority = database_authority()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.path)
    context.load_cert_chain(*authority.issue(HOST))
    context.verify_mode = ssl.CERT_REQUIRED if client_certificates else ssl.CERT_NONE

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port)) as upstream:
                self.request.settimeout(10)
                with context.wrap_socket(self.request, server_side=True) as client:
                    client.settimeout(None)
                    _forward(client, upstream)

    with ThreadingTCPServer((HOST, 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _forward(client: ssl.SSLSocket, upstream: socket.socket) -> None:
    while True:
        ready = [client] if client.pending() else select.select([client, upstream], [], [])[0]
        for source in ready:
            chunk = source.recv(_CHUNK_BYTES)
            if not chunk:
                return
            (upstream if source is client else client).sendall(chunk)
