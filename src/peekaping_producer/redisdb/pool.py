"""Connections to Redis, closed if the server can't serve us or Redis may have moved to another one."""

import asyncio
import socket
import ssl
import weakref
from collections.abc import Mapping
from typing import Any

import hiredis
from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as ConnectTimeout
from redis.maint_notifications import MaintNotificationsConfig

from peekaping_producer.redisdb.replies import CANNOT_SERVE, code_of
from peekaping_producer.redisdb.sentinels import Sentinels

_IDLE_S, _PROBE_EVERY_S, _PROBES = 15, 5, 3
"""A connection whose peer disappeared is noticed within half a minute."""

_NO_NOTIFICATIONS = MaintNotificationsConfig(enabled=False)
"""redis-py would ask each server to announce its maintenance, and move connections by itself."""


def keepalive_options() -> dict[int, int]:
    """Return those socket options of TCP keepalive that this system has."""
    wanted = {
        # macOS calls the first one TCP_KEEPALIVE.
        getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None)): _IDLE_S,
        getattr(socket, "TCP_KEEPINTVL", None): _PROBE_EVERY_S,
        getattr(socket, "TCP_KEEPCNT", None): _PROBES,
    }
    return {option: value for option, value in wanted.items() if option is not None}


class ServingConnection(Connection):
    """A connection that does not go back to the pool after its server has said that it can't serve us.

    A demoted primary keeps its clients' connections: only a new one leads to the server that took over.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        tls_name: str | None = None,
        **options: Any,  # noqa: ANN401 - redis-py's
    ) -> None:
        """Take what TLS needs, None for a plain connection, and the name in the certificate if it is not the host."""
        self._tls, self._tls_name = tls, tls_name
        super().__init__(**options)

    def pack_command(self, *args: Any) -> list[bytes]:  # noqa: ANN401 - redis-py's
        """Return the bytes of a command, packed in C. redis-py does that only in its blocking client, and slower."""
        command, *others = args
        try:
            return [hiredis.pack_command((*command.split(), *others))]
        except (TypeError, UnicodeEncodeError):  # such as an id that is not valid UTF-8
            return super().pack_command(*args)

    def _connection_arguments(self) -> Mapping[str, Any]:
        arguments: dict[str, Any] = {"host": self.host, "port": self.port}
        if self._tls:
            arguments |= {"ssl": self._tls, "server_hostname": self._tls_name or self.host}
        return arguments

    async def read_response(
        self,
        disable_decoding: bool = False,  # noqa: FBT001, FBT002 - redis-py's signature
        timeout: float | None = None,
        *,
        disconnect_on_error: bool = True,
        push_request: bool | None = False,
    ) -> Any:  # noqa: ANN401
        """Read a reply; after one such as READONLY the pool closes this connection."""
        try:
            return await super().read_response(
                disable_decoding, timeout, disconnect_on_error=disconnect_on_error, push_request=push_request
            )
        except RedisError as error:
            if code_of(error) in CANNOT_SERVE:
                self.cannot_serve()
            raise

    def cannot_serve(self) -> None:
        """Let the pool close this connection."""
        self.mark_for_reconnect()  # type: ignore[no-untyped-call]


class SocketConnection(ServingConnection):
    """A connection by a Unix socket, whose path is the host."""

    async def _connect(self) -> None:
        async with asyncio.timeout(self.socket_connect_timeout):
            self._reader, self._writer = await asyncio.open_unix_connection(self.host)

    def _host_error(self) -> str:
        return self.host


class PrimaryConnection(ServingConnection):
    """A connection to where the sentinels say that the primary is."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:  # noqa: ANN401 - redis-py's
        """Take the sentinels, which are asked whenever it connects."""
        self._sentinels = sentinels
        super().__init__(**options)

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's signature
        """Connect, if it is not connected."""
        if not self.is_connected:
            primary = await self._sentinels.primary()
            self.host, self.port = primary.host, primary.port
        try:
            await super().connect_check_health(check_health, retry_socket_connect)
        except (ConnectionLost, ConnectTimeout):
            self._sentinels.doubt()
            raise

    def cannot_serve(self) -> None:
        """Let the pool close this connection, and ask another sentinel."""
        super().cannot_serve()
        self._sentinels.doubt()


class Pool(ConnectionPool):
    """A pool whose idle connections and subscriptions can be dropped at once."""

    def __init__(self, connection_class: type[ServingConnection], **options: Any) -> None:  # noqa: ANN401 - redis-py's
        """Take the class and the options of each connection."""
        super().__init__(connection_class, maint_notifications_config=_NO_NOTIFICATIONS, **options)
        self._subscribed: weakref.WeakSet[AbstractConnection] = weakref.WeakSet()
        self.dropped_subscriptions = 0
        """How often the subscriptions have been dropped."""

    def note_subscription(self, connection: AbstractConnection) -> None:
        """Remember a connection that `drop` may close even if it is in use."""
        self._subscribed.add(connection)

    async def release(self, connection: AbstractConnection) -> None:
        """Take a connection back. It may serve any command next, so it no longer counts as a subscription."""
        self._subscribed.discard(connection)
        await super().release(connection)

    async def drop(self, *, subscriptions: bool) -> None:
        """Close idle connections, those in use when they are returned, and subscriptions at once if asked.

        The next ones lead to where Redis is now.
        """
        for connection in self._in_use_connections:
            connection.mark_for_reconnect()  # type: ignore[no-untyped-call]
        connections = list(self._available_connections)
        if subscriptions:
            self.dropped_subscriptions += 1
            connections += self._subscribed
            self._subscribed.clear()
        # nowait: the pool must not hand out a connection that is half closed.
        for connection in connections:
            await connection.disconnect(nowait=True)


def dropped_subscriptions(redis: Redis) -> int:
    """Return how often a client's subscriptions have been dropped."""
    return redis.connection_pool.dropped_subscriptions if isinstance(redis.connection_pool, Pool) else 0


def note_subscription(redis: Redis, connection: AbstractConnection) -> None:
    """Let a client's pool drop this connection even if it is in use."""
    if isinstance(redis.connection_pool, Pool):
        redis.connection_pool.note_subscription(connection)


async def drop_connections(redis: Redis, *, subscriptions: bool) -> None:
    """Close a client's idle connections, and its subscriptions if asked."""
    if isinstance(redis.connection_pool, Pool):
        await redis.connection_pool.drop(subscriptions=subscriptions)
