"""How values of settings are parsed. Refused ones raise ValueError without a message: errors say what is allowed."""

from collections.abc import Mapping
from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, PlainValidator, ValidationInfo

from peekaping_producer.config.secret import Secret


def one_of(names: Mapping[str, StrEnum]) -> PlainValidator:
    """Accept one of these names, in upper or lower case and with surrounding blanks."""

    def choose(value: object) -> object:
        try:
            return value if isinstance(value, StrEnum) else names[str(value).strip().lower()]
        except KeyError:
            raise ValueError from None

    return PlainValidator(choose)


def _whole(value: object) -> object:
    """Accept digits only: pydantic alone accepts `6_379` and ` 1.0`."""
    text = str(value).strip()
    if not (text.isascii() and text.isdigit()):
        raise ValueError
    return int(text)


def _zone(value: object) -> ZoneInfo:
    if isinstance(value, ZoneInfo):
        return value
    name = str(value).strip()
    if name not in available_timezones():
        raise ValueError
    return ZoneInfo(name)


def _plain(text: str) -> str:
    """Refuse bytes that are not UTF-8 (they arrive as surrogates) and NUL: no server accepts them."""
    if "\0" in text or text.encode(errors="ignore").decode() != text:
        raise ValueError
    return text


def _secret(value: object, info: ValidationInfo) -> object:
    return Secret.of_text((info.field_name or "").upper(), _plain(value)) if isinstance(value, str) else value


def _name(value: object) -> object:
    """Refuse a name of blanks, and a URL, which may contain a password."""
    if not isinstance(value, str):
        return value
    if not value.strip() or is_url(value):
        raise ValueError
    return _plain(value)


def is_url(text: str) -> bool:
    """Return whether a text looks like a URL with a login in it."""
    return "://" in text and "@" in text


def _host(value: object) -> object:
    """Refuse a URL, which may contain a password; surrounding blanks are ignored."""
    host = value.strip() if isinstance(value, str) else value
    if isinstance(host, str) and ("@" in host or "://" in host or not host.isprintable() or len(host.split()) != 1):
        raise ValueError
    if isinstance(host, str) and not host.startswith("/"):
        # DNS resolution fails if a part of the name is empty or longer than 63 characters.
        host.encode("idna")
    return host


def _redis_host(value: object) -> object:
    """Refuse a path that is not absolute."""
    host = _host(value)
    if isinstance(host, str) and "/" in host and not host.startswith("/"):
        raise ValueError
    return host


def _absolute_path(value: object) -> object:
    """Refuse a relative path: other programs run in other folders."""
    if not isinstance(value, str):
        return value
    if not value.startswith("/"):
        raise ValueError
    return _plain(value)


def _ip_address(value: object) -> object:
    """Refuse names: they would have to be looked up, and may mean several addresses."""
    text = str(value).strip()
    ip_address(text)
    return text


IpAddress = Annotated[str, BeforeValidator(_ip_address)]
Whole = Annotated[int, BeforeValidator(_whole)]
Host = Annotated[str, BeforeValidator(_host)]
RedisHost = Annotated[str, BeforeValidator(_redis_host)]
Name = Annotated[str, BeforeValidator(_name)]
AbsolutePath = Annotated[str, BeforeValidator(_absolute_path)]
SecretText = Annotated[Secret, PlainValidator(_secret)]
Zone = Annotated[ZoneInfo, PlainValidator(_zone)]
