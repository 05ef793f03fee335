"""A pooler in front of Postgres: whether a connection keeps one server session, as in PgBouncer's session mode."""

from sqlalchemy import Connection, Engine, text

SHARES_SESSIONS = "behind PgBouncer in transaction mode, set DB_STATEMENT_CACHE=off"
_SESSION = text("SELECT pg_backend_pid()")


class SessionsShared(Exception):
    """Each transaction may get a different session of the server: prepared statements must not outlive it."""

    def __init__(self) -> None:
        """Set the message."""
        super().__init__("the pooler gives each transaction another session")


def check_sessions(engine: Engine) -> None:
    """Raise SessionsShared if two connections to a pooler do not have one session each.

    `engine` must prepare nothing beyond a transaction, and allow two connections. A busy pooler in transaction mode may
    go undetected; one in session mode always passes. So nothing may be set for a session because of this test.
    """
    with engine.connect() as one, engine.connect() as other:
        of_one = {_session(one), _session(one)}
        of_other = {_session(other), _session(other)}
        of_one.add(_session(one))
    if len(of_one) > 1 or len(of_other) > 1 or of_one & of_other:
        raise SessionsShared


def _session(connection: Connection) -> int:
    """Return the process id of the server's session in which a transaction runs."""
    pid: int = connection.execute(_SESSION).scalar_one()
    connection.rollback()
    return pid
