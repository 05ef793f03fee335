"""The settings of Redis: all that a command needs if it uses only Redis."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from peekaping_producer.config.addresses import Address, Addresses
from peekaping_producer.config.fields import PORT, SWITCHES, Base, Port, Switch, file_setting, setting
from peekaping_producer.config.values import Name, RedisHost, SecretText, Whole, one_of

_PEM = "the path of a PEM file; only with REDIS_TLS=on"


class RedisSettings(Base):
    """What leads to Redis. Field names are the variables' names in lower case."""

    redis_host: RedisHost = setting(
        "redis",
        meaning="The Redis server's host name or address, or the path of its Unix socket.",
        allowed="a host name, or the path of a Unix socket",
    )
    redis_port: Port = setting(6379, meaning="The Redis server's port.", allowed=PORT)
    redis_username: Name | None = setting(
        None, meaning="The Redis user (ACL), if not `default`.", allowed="a user name"
    )
    redis_password: SecretText | None = setting(
        None, meaning="The Redis password; empty for none.", allowed="a password"
    )
    redis_password_file: Name | None = file_setting("REDIS_PASSWORD")
    redis_db: Annotated[Whole, Field(ge=0, le=15)] = setting(
        0, meaning="The number of the Redis database.", allowed="a whole number from 0 to 15"
    )
    redis_url: SecretText | None = setting(
        None,
        meaning="Host, port, database, user and password in one URL; what it leaves out may be set by its own "
        "variable.",
        allowed="a URL such as rediss://user:password@host:6379/0 or unix:///path?db=0, special characters as %XX",
    )
    redis_url_file: Name | None = file_setting("REDIS_URL")
    redis_tls: Annotated[Switch, one_of(SWITCHES)] = setting(
        Switch.OFF,
        meaning="Whether connections to Redis, and to sentinels, use TLS and check the server's certificate.",
        allowed="on or off; off with a Unix socket",
    )
    redis_tls_ca: Name | None = setting(
        None,
        meaning="The certificates of the authorities to trust, instead of the system's.",
        allowed=_PEM,
    )
    redis_tls_cert: Name | None = setting(
        None, meaning="The producer's own certificate, if Redis requires one.", allowed=_PEM
    )
    redis_tls_key: Name | None = setting(
        None,
        meaning="The key of `REDIS_TLS_CERT`, if it is in a file of its own; not encrypted.",
        allowed="the path of a PEM file; only with REDIS_TLS_CERT",
    )
    redis_tls_server_name: Name | None = setting(
        None,
        meaning="The name that the server's certificate must hold, if it is not the one that is connected to.",
        allowed="a host name; only with REDIS_TLS=on",
    )
    redis_sentinels: Addresses | None = setting(
        None,
        meaning="The sentinels. Each new connection asks one of them for the primary; `REDIS_HOST` and `REDIS_PORT`"
        " are then not used.",
        allowed="host:port,host:port,…; not together with REDIS_URL",
    )
    redis_sentinel_master: Name | None = setting(
        None, meaning="What the sentinels call the primary.", allowed="a name; only with REDIS_SENTINELS"
    )
    redis_sentinel_username: Name | None = setting(
        None, meaning="The user for the sentinels, if not `default`.", allowed="a user name; only with REDIS_SENTINELS"
    )
    redis_sentinel_password: SecretText | None = setting(
        None, meaning="The password for the sentinels; empty for none.", allowed="a password; only with REDIS_SENTINELS"
    )
    redis_sentinel_password_file: Name | None = file_setting("REDIS_SENTINEL_PASSWORD")

    @property
    def redis_place(self) -> str:
        """The variable that says where Redis is, for messages."""
        if self.redis_sentinels:
            return "REDIS_SENTINELS"
        return self.redis_url.variable if self.redis_url else "REDIS_HOST"

    @field_validator("redis_tls")
    @classmethod
    def _off_for_a_socket(cls, value: Switch, info: ValidationInfo) -> Switch:
        if value is Switch.ON and info.data.get("redis_host", "").startswith("/"):
            raise ValueError
        return value

    @field_validator("redis_tls_ca", "redis_tls_cert", "redis_tls_server_name")
    @classmethod
    def _only_with_tls(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("redis_tls") is Switch.OFF:
            raise ValueError
        return value

    @field_validator("redis_tls_key")
    @classmethod
    def _only_with_a_certificate(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("redis_tls_cert", value) is None:
            raise ValueError
        return value

    @field_validator("redis_sentinels")
    @classmethod
    def _not_beside_a_url(cls, value: tuple[Address, ...] | None, info: ValidationInfo) -> tuple[Address, ...] | None:
        if value is not None and info.data.get("redis_url") is not None:
            raise ValueError
        return value

    @field_validator("redis_sentinel_master")
    @classmethod
    def _as_the_sentinels(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "redis_sentinels" in info.data and (value is None) is not (info.data["redis_sentinels"] is None):
            raise ValueError
        return value

    @field_validator("redis_sentinel_username", "redis_sentinel_password")
    @classmethod
    def _only_with_sentinels(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("redis_sentinels", ()) is None:
            raise ValueError
        return value
