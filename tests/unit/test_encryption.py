"""What an operator reads about a certificate that is not valid at this time."""

import datetime as dt
import ssl
from contextlib import suppress

import pytest
import trustme

from peekaping_producer.catalog.encryption import tls_fix

HOST = "db.example.org"
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


def handshake_error(authority: trustme.CA, certificate: trustme.LeafCert) -> ssl.SSLError:
    """Return what a client says that trusts the authority."""
    context, server_context = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(context)
    certificate.configure_cert(server_context)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=HOST)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    with pytest.raises(ssl.SSLError) as raised:  # noqa: PT012 - the two take turns
        while True:
            for side in (client, server):
                with suppress(ssl.SSLWantReadError):
                    side.do_handshake()
    return raised.value


@pytest.mark.parametrize(("begins", "ends"), [(NOW - 2 * DAY, NOW - DAY), (NOW + DAY, NOW + 2 * DAY)])
def test_a_certificate_out_of_its_time(begins: dt.datetime, ends: dt.datetime) -> None:
    authority = trustme.CA()
    error = handshake_error(authority, authority.issue_cert(HOST, not_before=begins, not_after=ends))

    fix = tls_fix(error)

    assert fix is not None
    assert fix.startswith("the certificate of the server at DB_HOST is not valid, ")
