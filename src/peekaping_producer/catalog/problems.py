"""What an operator is told of a database that refuses or does not answer, whichever driver says so."""

from collections.abc import Sequence

from peekaping_producer.config.settings import DbType, Settings
from peekaping_producer.errors import Unavailable

REFUSED = "DB_USER or DB_PASS is refused by the database at DB_HOST, set the right ones"
_NO_ADDRESS = "is DB_HOST right? The port belongs into DB_PORT"
_NO_ADDRESS_SIGN = "[Errno -"
"""So the errors of looking a host up begin, in every driver's words, and no others."""


def told(error: Unavailable, cure: str | None, settings: Settings) -> Unavailable:
    """Return the error with the settings that say where, and with what may be the cure where that is known."""
    if not cure and _NO_ADDRESS_SIGN in error.reason:
        cure = _NO_ADDRESS
    where = f"DB_HOST {settings.db_host!r}, DB_PORT {settings.db_port}"
    if settings.db_type is DbType.SQLITE:
        where = f"DB_NAME {settings.db_name!r}"
    return Unavailable("database", f"{where}: {error.reason}{f' ({cure})' if cure else ''}")


def unmigrated(settings: Settings, missing: Sequence[str]) -> Unavailable:
    """Return what to report of a database that lacks some of what the producer reads: migrations may still bring it."""
    schema = f", DB_SCHEMA {settings.db_schema!r}" if settings.db_schema else ""
    made_by = "start" if settings.db_type is DbType.MONGO else "run its migrations"
    return Unavailable(
        "database",
        f"DB_NAME {settings.db_name!r}{schema}: not, or not yet, a database of Peekaping 0.0.46, it lacks "
        f"{', '.join(missing)} (let Peekaping {made_by}, or name the right database)",
    )
