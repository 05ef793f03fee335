"""A list of servers, as in REDIS_SENTINELS."""

from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Struct
from pydantic import PlainValidator

_SENTINELS_PORT = 26379


class Address(Struct, frozen=True):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as in the setting."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _addresses(value: object) -> object:
    """Accept `host:port`, several separated by commas; the port may be left out, and an IPv6 address is in brackets."""
    return tuple(_address(part.strip()) for part in value.split(",")) if isinstance(value, str) else value


def _address(text: str) -> Address:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.netloc != text or "@" in text or len(text.split()) != 1 or not text.isprintable():
        raise ValueError
    parts.hostname.encode("idna")
    return Address(parts.hostname, _SENTINELS_PORT if parts.port is None else parts.port)


Addresses = Annotated[tuple[Address, ...], PlainValidator(_addresses)]
