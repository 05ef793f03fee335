"""The settings of Redis: all that a command needs that reads nothing else."""

from typing import Annotated

from pydantic import Field

from peekaping_producer.config.fields import PORT, Base, Port, file_setting, setting
from peekaping_producer.config.values import Name, RedisHost, SecretText, Whole


class RedisSettings(Base):
    """What leads to Redis. Field names are the variables' names in lower case."""

    redis_host: RedisHost = setting(
        "redis",
        meaning="The Redis server's host name or address.",
        allowed="a host name; a Unix socket's path is not supported",
    )
    redis_port: Port = setting(6379, meaning="The Redis server's port.", allowed=PORT)
    redis_password: SecretText | None = setting(
        None, meaning="The Redis password; empty for none.", allowed="a password"
    )
    redis_password_file: Name | None = file_setting("REDIS_PASSWORD")
    redis_db: Annotated[Whole, Field(ge=0, le=15)] = setting(
        0, meaning="The number of the Redis database.", allowed="a whole number from 0 to 15"
    )
