"""What an operator reads about a database that refuses or does not answer, whichever driver says so."""

from collections.abc import Sequence

from peekaping_producer.config.settings import Settings
from peekaping_producer.errors import ConfigurationError, Unavailable

REFUSED = "DB_USER or DB_PASS is refused by the database at DB_HOST, set the right ones"
NO_DATABASE = "the server at DB_HOST has no database of the name in DB_NAME, set the right one"
NO_RIGHT = "DB_USER lacks a right on the database at DB_HOST, grant it SELECT"
_NO_ADDRESS = "is DB_HOST right? The port belongs in DB_PORT"
_NO_ADDRESS_SIGN = "[Errno -"
"""Every driver's error begins like this when the host name has no address, and no other error does."""
_NOT_THERE = "is it running, and reachable from here?"
_NOT_THERE_SIGN = "[Errno "
_NO_ANSWER = "is it running, reachable from here, and not overloaded?"


def server_address(settings: Settings) -> str:
    """Return the settings that say where a server is."""
    return f"DB_HOST {settings.db_host!r}, DB_PORT {settings.db_port}"


def wrong_kind(settings: Settings) -> str:
    """Return the advice for an answer that this kind of server never gives."""
    return f"DB_TYPE is {settings.db_type.value}: is it that kind of server?"


def configuration_error(error: Unavailable, fix: str | None) -> ConfigurationError | None:
    """Return the error that ends the start, with the fix that an operator must make; None if there is none."""
    return ConfigurationError(f"{fix}: {error.reason}") if fix else None


def unavailable(error: Unavailable, where: str, advice: str | None, *, unanswered: bool = False) -> Unavailable:
    """Return the error with the settings that say where the database is, and with advice where there is any.

    `unanswered`: no server answered, though the driver raised no TimeoutError.
    """
    if not advice and _NOT_THERE_SIGN in error.reason:
        advice = _NO_ADDRESS if _NO_ADDRESS_SIGN in error.reason else _NOT_THERE
    elif not advice and (unanswered or isinstance(error.__cause__, TimeoutError)):
        advice = _NO_ANSWER
    return Unavailable("database", f"{where}: {error.reason}{f' ({advice})' if advice else ''}")


def unmigrated(settings: Settings, missing: Sequence[str], remedy: str = "run its migrations") -> Unavailable:
    """Return the error for a database that lacks tables or columns, which Peekaping may create by the `remedy`."""
    schema = f", DB_SCHEMA {settings.db_schema!r}" if settings.db_schema else ""
    return Unavailable(
        "database",
        f"DB_NAME {settings.db_name!r}{schema}: not, or not yet, a database of Peekaping 0.0.46, it lacks "
        f"{', '.join(missing)} (let Peekaping {remedy}, or name the right database)",
    )
