"""The login of a connection, whose password is read again each time: it may be in a file that was replaced."""

import asyncio

from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as ConnectionLost

from peekaping_producer.config.secret import Secret, SecretUnreadable


class Login(CredentialProvider):
    """A user and a password."""

    def __init__(self, user: str | None, password: Secret | None) -> None:
        """Take the user, None for `default`, and the password, None for an empty one."""
        self._user = user or "default"
        self._password = password

    async def get_credentials_async(self) -> tuple[str, str]:
        """Return both; raises redis-py's ConnectionError if the password cannot be read now."""
        try:
            return self._user, await asyncio.to_thread(self._password.reveal) if self._password else ""
        except SecretUnreadable as error:
            raise ConnectionLost(str(error)) from error


def login(user: str | None, password: Secret | None) -> Login | None:
    """Return the login for each new connection; None if there is none."""
    return Login(user, password) if user or password else None
