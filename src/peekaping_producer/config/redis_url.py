"""REDIS_URL: the address of Redis, its login and its database in one text."""

from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from peekaping_producer.config.fields import allowed_in
from peekaping_producer.config.redis_settings import RedisSettings
from peekaping_producer.config.secret import Secret, SecretUnreadable

_TLS = {"redis": "off", "rediss": "on"}


def take_redis_url(values: dict[str, str], secrets: dict[str, Secret]) -> list[str]:
    """Add what REDIS_URL says, if it is set, to the other values and secrets; return what is wrong or contradicts it.

    The password is read again each time, since the URL may be in a file.
    """
    if "redis_url" in values:
        url = Secret.of_text("REDIS_URL", values["redis_url"])
    elif "redis_url" in secrets:
        url = secrets["redis_url"]
    else:
        return []
    try:
        said, password = parse_redis_url(url.reveal())
        RedisSettings.model_validate(said)
        other = secrets["redis_password"].reveal() if "redis_password" in secrets else values.get("redis_password")
    except SecretUnreadable:
        return []  # which is reported already
    except ValueError:
        return [f"{url.variable} is wrong: must be {allowed_in(RedisSettings, 'redis_url')}"]
    contradicting = [field for field, value in said.items() if not _same(field, values.get(field, value), value)]
    values |= said
    if password and other is None:
        secrets["redis_password"] = Secret(url.variable, lambda: _password_now(url, said))
    elif password and other != password:
        contradicting.append("redis_password")
    return [f"{field.upper()} contradicts {url.variable}: remove one of them" for field in contradicting]


def _same(field: str, value: str, other: str) -> bool:
    """Return whether two values mean the same: case counts in a user's name and in a path."""
    if field == "redis_username" or other.startswith("/"):
        return value == other
    return value.strip().lower() == other.lower()


def _password_now(url: Secret, said: dict[str, str]) -> str:
    try:
        said_now, password = parse_redis_url(url.reveal())
    except ValueError:
        raise SecretUnreadable(f"{url.variable} does not hold a valid URL any more") from None
    if said_now != said or not password:
        raise SecretUnreadable(f"{url.variable} names another server, database or user now: restart the producer")
    return password


def parse_redis_url(url: str) -> tuple[dict[str, str], str]:
    """Return what a URL says, by the names of settings, and apart from that its password, empty for none.

    Raises ValueError, without a message, for what is not `redis://`, `rediss://` or `unix://`.
    """
    parts = urlsplit(url.strip())
    values = _socket(parts) if parts.scheme == "unix" else _server(parts)
    user, password = (unquote(text or "", errors="strict") for text in (parts.username, parts.password))
    values["redis_username"] = user
    return {name: value for name, value in values.items() if value}, password


def _server(parts: SplitResult) -> dict[str, str]:
    database, path = _database(parts), parts.path.strip("/")
    if parts.scheme not in _TLS or not parts.hostname or parts.fragment or (database and path):
        raise ValueError
    return {
        "redis_tls": _TLS[parts.scheme],
        "redis_host": unquote(parts.hostname, errors="strict"),
        "redis_port": "" if parts.port is None else str(parts.port),
        "redis_db": database or path,
    }


def _socket(parts: SplitResult) -> dict[str, str]:
    if parts.hostname or parts.fragment or not parts.path.startswith("/"):
        raise ValueError
    return {"redis_host": unquote(parts.path, errors="strict"), "redis_db": _database(parts)}


def _database(parts: SplitResult) -> str:
    """Return the only parameter that is known, `db`; empty if it is not given."""
    given = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    databases = given.pop("db", [""])
    if given or len(databases) > 1:
        raise ValueError
    return databases[0]
