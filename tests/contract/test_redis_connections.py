"""Every way to connect to Redis, and what an operator reads if it does not work."""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from cryptography.hazmat.primitives import serialization
from redis.asyncio import Redis

from peekaping_producer.config.loading import load_redis_settings
from peekaping_producer.config.redis_settings import RedisSettings
from peekaping_producer.config.secret import Secret
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.errors import ConfigurationError, Unavailable
from peekaping_producer.redisdb.client import answered, open_redis
from peekaping_producer.redisdb.pool import drop_connections
from peekaping_producer.schedule.requirements import check_redis
from support.certificates import Authority, Certificate
from support.nodes import connected
from support.producer import run_here
from support.sentinels import MASTER, Sentinel, sentinels
from support.server_process import free_port
from support.tls_servers import TlsRedis, TlsSentinel, need_redis_server

LOCAL = "localhost"
PASSWORD, NEXT = "hush-one", "hush-two"


@asynccontextmanager
async def opened(chosen: RedisSettings | None = None, timeout_s: float = 10, **settings: Any) -> AsyncIterator[Redis]:
    """Connect as a node does, to this machine unless the settings say otherwise, and see that Redis can be used."""
    chosen = chosen or RedisSettings(**{"redis_host": HOST} | settings)
    redis = open_redis(chosen, timeout_s)
    try:
        await check_redis(redis, chosen, timeout_s)
        yield redis
    finally:
        await redis.aclose()


async def refusal(timeout_s: float = 10, **settings: Any) -> str:
    """Return the line for an operator that a start ends with."""
    with pytest.raises(ConfigurationError) as raised:
        async with opened(timeout_s=timeout_s, **settings):
            pass
    (problem,) = raised.value.problems
    assert "hush" not in problem
    return problem


# --- a Unix socket, a user


async def test_a_unix_socket(redis_server: RedisServer, redis: Redis) -> None:
    async with opened(redis_host=str(redis_server.unix_socket), redis_db=1) as client:
        await client.set("key", "value")
        info = await client.client_info()
    assert "redis.sock" in str(info["addr"])
    assert (info["db"], info["name"]) == (1, "peekaping-producer")


async def test_a_unix_socket_that_is_not_there_yet(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"No such file or directory"):
        async with opened(redis_host=str(tmp_path / "redis.sock")):
            pass


@pytest.fixture
async def own_redis(own_redis_server: RedisServer) -> AsyncIterator[Redis]:
    """Connect to a server of the test's own, whose users it may change."""
    async with connected(own_redis_server.port) as redis:
        yield redis


async def test_a_user_with_a_password(own_redis_server: RedisServer, own_redis: Redis) -> None:
    await own_redis.acl_setuser("me", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+@all"], keys=["*"])
    address: dict[str, Any] = {"redis_port": own_redis_server.port, "redis_username": "me"}
    async with opened(**address, redis_password=PASSWORD) as client:
        assert await client.acl_whoami() == "me"
    assert "REDIS_PASSWORD is refused by Redis at REDIS_HOST" in await refusal(**address, redis_password=NEXT)
    assert "REDIS_PASSWORD is not set, and Redis at REDIS_HOST requires a password" in await refusal(**address)


async def test_a_user_without_a_password(own_redis_server: RedisServer, own_redis: Redis) -> None:
    await own_redis.acl_setuser("me", enabled=True, nopass=True, commands=["+@all"], keys=["*"])
    async with opened(redis_port=own_redis_server.port, redis_username="me") as client:
        assert await client.acl_whoami() == "me"


async def test_a_password_in_a_file_is_read_for_each_new_connection(
    own_redis_server: RedisServer, own_redis: Redis, tmp_path: Path
) -> None:
    path = tmp_path / "password"
    path.write_text(PASSWORD)
    await own_redis.config_set("requirepass", PASSWORD)
    secret = Secret.of_file("REDIS_PASSWORD_FILE", path)
    async with opened(redis_port=own_redis_server.port, redis_password=secret) as client:
        await own_redis.config_set("requirepass", NEXT)
        await client.ping()  # by the connection that there is
        await drop_connections(client, subscriptions=False)
        with pytest.raises(Unavailable, match="invalid username-password pair"):
            async with answered(10):
                await client.ping()
        path.write_text(NEXT)
        async with answered(10):
            await client.ping()
        await drop_connections(client, subscriptions=False)
        path.unlink()
        for _ in range(2):  # a connection without a login must not stay in the pool
            with pytest.raises(Unavailable, match=r"REDIS_PASSWORD_FILE is '.+', which can't be used: No such file"):
                async with answered(10):
                    await client.ping()
    problem = await refusal(redis_port=own_redis_server.port, redis_password=Secret.of_text("REDIS_URL", "hush"))
    assert problem.startswith("REDIS_URL is refused by Redis")


# --- a URL


async def test_a_url_and_one_in_a_file_whose_password_changes(
    own_redis_server: RedisServer, own_redis: Redis, tmp_path: Path
) -> None:
    rules: dict[str, Any] = {"enabled": True, "commands": ["+@all"], "keys": ["*"]}
    await own_redis.acl_setuser("me", passwords=[f"+{PASSWORD}"], **rules)
    url = f"redis://me:{PASSWORD}@{HOST}:{own_redis_server.port}/3"
    path = tmp_path / "url"
    path.write_text(url)
    for variables in ({"REDIS_URL": url}, {"REDIS_URL_FILE": str(path)}):
        async with opened(loaded(tmp_path, **variables)) as client:
            info = await client.client_info()
            assert (info["user"], info["db"]) == ("me", 3)
    async with opened(loaded(tmp_path, REDIS_URL_FILE=str(path))) as client:
        await own_redis.acl_setuser("me", reset_passwords=True, passwords=[f"+{NEXT}"], **rules)
        path.write_text(url.replace(PASSWORD, NEXT))
        await drop_connections(client, subscriptions=False)
        assert await client.acl_whoami() == "me"


async def test_status_needs_nothing_but_a_url(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    url = f"unix://{redis_server.unix_socket}?db=0"
    done = await asyncio.to_thread(run_here, tmp_path, "status", "--json", REDIS_HOST="", REDIS_URL=url)
    assert json.loads(done.out)["nodes"] == [], done.err


def loaded(folder: Path, **variables: str) -> RedisSettings:
    """Return the settings of Redis as a command reads them from these variables alone."""
    with patch.dict(os.environ, variables, clear=True), contextlib.chdir(folder):
        return load_redis_settings()


# --- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make the authority that signs the certificates of both sides."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make an authority that no server trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def tls_redis(authority: Authority) -> Iterator[TlsRedis]:
    """Start a Redis that requires TLS."""
    need_redis_server()
    with TlsRedis(authority, LOCAL, "--tls-auth-clients", "no") as server:
        yield server


@pytest.fixture(scope="module")
def strict_redis(authority: Authority) -> Iterator[TlsRedis]:
    """Start a Redis that requires TLS and a certificate of the client's."""
    need_redis_server()
    with TlsRedis(authority, LOCAL) as server:
        yield server


def trusting(authority: Authority, server: TlsRedis, own: Certificate | None = None) -> dict[str, Any]:
    """Return the settings that lead to a server by its name, with this authority."""
    settings = {"redis_host": LOCAL, "redis_port": server.port, "redis_tls": "on", "redis_tls_ca": str(authority.path)}
    return settings | ({"redis_tls_cert": str(own.path), "redis_tls_key": str(own.key)} if own else {})


async def test_tls(tls_redis: TlsRedis, authority: Authority) -> None:
    async with opened(**trusting(authority, tls_redis)) as client:
        await client.ping()


async def test_tls_where_the_certificate_has_another_name(tls_redis: TlsRedis, authority: Authority) -> None:
    settings = trusting(authority, tls_redis) | {"redis_host": HOST}
    problem = await refusal(**settings)
    assert problem.startswith(
        "the certificate of Redis at REDIS_HOST is for another name, set REDIS_TLS_SERVER_NAME to one that it holds: "
    )
    async with opened(**settings, redis_tls_server_name=LOCAL) as client:
        await client.ping()


async def test_tls_with_an_authority_that_the_system_does_not_know(tls_redis: TlsRedis) -> None:
    problem = await refusal(redis_host=LOCAL, redis_port=tls_redis.port, redis_tls="on")
    assert "is signed by an authority that this system does not know, set REDIS_TLS_CA: " in problem


async def test_tls_with_the_wrong_authority(tls_redis: TlsRedis, stranger: Authority) -> None:
    problem = await refusal(**trusting(stranger, tls_redis))
    assert "is not signed by an authority in REDIS_TLS_CA, name the right file: " in problem


async def test_a_port_with_tls_without_redis_tls(tls_redis: TlsRedis) -> None:
    problem = await refusal(redis_port=tls_redis.port)
    assert problem == f"{HOST}:{tls_redis.port} speaks TLS only: set REDIS_TLS=on"


async def test_a_port_without_tls_with_redis_tls(redis_server: RedisServer) -> None:
    problem = await refusal(timeout_s=0.5, redis_port=redis_server.port, redis_tls="on")
    address = f"{HOST}:{redis_server.port}"
    assert problem == f"REDIS_TLS is on, and {address} does not speak TLS: set it to off, or name a port with TLS"


async def test_a_certificate_of_the_producers_own(strict_redis: TlsRedis, authority: Authority) -> None:
    async with opened(**trusting(authority, strict_redis, authority.issue("producer"))) as client:
        await client.ping()


async def test_a_certificate_and_its_key_in_one_file(
    strict_redis: TlsRedis, authority: Authority, tmp_path: Path
) -> None:
    own, both = authority.issue("producer"), tmp_path / "both.pem"
    both.write_bytes(own.key.read_bytes() + own.path.read_bytes())
    async with opened(**trusting(authority, strict_redis), redis_tls_cert=str(both)) as client:
        await client.ping()


async def test_no_certificate_where_one_is_required(strict_redis: TlsRedis, authority: Authority) -> None:
    problem = await refusal(**trusting(authority, strict_redis))
    # Whether the client sees the server's reason at once depends on which of them is quicker.
    server = rf"(Redis at REDIS_HOST|{LOCAL}:{strict_redis.port})"
    assert re.fullmatch(rf"REDIS_TLS_CERT is not set, and {server} requires .*: set it and REDIS_TLS_KEY", problem)


async def test_a_certificate_that_redis_does_not_trust(
    strict_redis: TlsRedis, authority: Authority, stranger: Authority
) -> None:
    problem = await refusal(**trusting(authority, strict_redis, stranger.issue("producer")))
    assert problem.startswith("REDIS_TLS_CERT is refused by ")
    assert ", name a certificate that it trusts: " in problem


@pytest.mark.parametrize("variable", ["REDIS_TLS_CA", "REDIS_TLS_CERT", "REDIS_TLS_KEY"])
async def test_a_file_for_tls_that_is_not_there(authority: Authority, tmp_path: Path, variable: str) -> None:
    own, absent = authority.issue("producer"), str(tmp_path / "absent.pem")
    files = {"redis_tls_ca": authority.path, "redis_tls_cert": own.path, "redis_tls_key": own.key}
    paths: dict[str, Any] = {name: str(path) for name, path in files.items()} | {variable.lower(): absent}
    problem = await refusal(redis_port=free_port(), redis_tls="on", **paths)
    assert problem == f"{variable} is {absent!r}, which can't be used: No such file or directory"


async def test_files_for_tls_that_hold_something_else(
    authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    own, text, encrypted = authority.issue("producer"), tmp_path / "text", tmp_path / "encrypted.pem"
    text.write_text("hush")
    base: dict[str, Any] = {"redis_port": free_port(), "redis_tls": "on"}
    problem = await refusal(**base, redis_tls_ca=str(text))
    assert problem == f"REDIS_TLS_CA is '{text}', which can't be used: it must hold certificates in PEM"
    key = serialization.load_pem_private_key(own.key.read_bytes(), None)
    form, encryption = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"hush")
    encrypted.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    for path in (stranger.issue("producer").key, text, encrypted):
        problem = await refusal(**base, redis_tls_cert=str(own.path), redis_tls_key=str(path))
        wanted = f"it must hold a PEM certificate, and '{path}' its key, unencrypted"
        assert problem == f"REDIS_TLS_CERT is '{own.path}', which can't be used: {wanted}"
    problem = await refusal(**base, redis_tls_cert=str(own.path))
    assert problem.endswith("it must hold a PEM certificate, and the same file its key, unencrypted")


# --- sentinels, and what is not a single Redis


def by(*sentinels: Sentinel, **others: str) -> dict[str, Any]:
    """Return the settings that lead to the primary that sentinels name."""
    addresses = ",".join(sentinel.address for sentinel in sentinels)
    return {"redis_sentinels": addresses, "redis_sentinel_master": MASTER, "redis_host": "not-used"} | others


async def test_sentinels_are_asked_until_one_answers_and_that_one_first_from_then_on(
    redis_server: RedisServer, redis: Redis
) -> None:
    with sentinels(redis_server.port, 3) as (frozen, dead, last):
        frozen.pause()
        dead.kill()
        async with opened(timeout_s=2, **by(frozen, dead, last)) as client:
            assert (await client.client_info())["name"] == "peekaping-producer"
            last.kill()
            await drop_connections(client, subscriptions=True)
            with pytest.raises(Unavailable) as raised:
                async with answered(4):
                    await client.ping()
        frozen.resume()
    reason = raised.value.reason
    assert reason.startswith(f"no sentinel names the primary 'checks': {last.address}: Error 111")
    assert f"{frozen.address}: no answer within 0.5 s" in reason


async def test_after_a_sentinel_that_leads_nowhere_another_is_asked(
    redis_server: RedisServer, redis: Redis, own_redis_server: RedisServer, own_redis: Redis
) -> None:
    await own_redis.replicaof(HOST, str(free_port()))
    for elsewhere in (free_port(), own_redis_server.port):
        with Sentinel(elsewhere) as wrong, Sentinel(redis_server.port) as right:
            client = open_redis(RedisSettings(**by(wrong, right)), 10)
            with pytest.raises(Unavailable):
                async with answered(10):
                    await client.set("asynq:queues", "")
            await client.ping()
            await client.aclose()


async def test_a_primary_that_sentinels_do_not_know(redis_server: RedisServer) -> None:
    with Sentinel(redis_server.port) as sentinel:
        problem = await refusal(**by(sentinel, redis_sentinel_master="other"))
        assert problem == "REDIS_SENTINEL_MASTER is 'other', and no sentinel knows it: set the right one"
        absent = f"{HOST}:{free_port()}"
        with pytest.raises(Unavailable, match="it does not know that name"):  # the other one may, once it is there
            async with opened(**by(redis_sentinels=f"{sentinel.address},{absent}", redis_sentinel_master="other")):
                pass


async def test_the_login_at_sentinels(own_redis_server: RedisServer, own_redis: Redis) -> None:
    await own_redis.config_set("requirepass", NEXT)
    rights = f"user watcher on >{PASSWORD} -@all +sentinel|get-master-addr-by-name"
    options = ("requirepass hush-default", rights, f"sentinel auth-pass {MASTER} {NEXT}")
    with Sentinel(own_redis_server.port, 1, *options) as sentinel:
        login = {"redis_sentinel_username": "watcher", "redis_sentinel_password": PASSWORD}
        async with opened(**by(sentinel, **login, redis_password=NEXT)) as client:
            await client.ping()
        problem = await refusal(**by(sentinel))
        server = f"the sentinel {sentinel.address}"
        assert problem == f"REDIS_SENTINEL_PASSWORD is not set, and {server} requires a password: set it"
        problem = await refusal(**by(sentinel, redis_sentinel_password=NEXT))
        assert problem.startswith(f"REDIS_SENTINEL_PASSWORD is refused by {server}, set the right one: ")
        problem = await refusal(**by(sentinel, **login, redis_password=PASSWORD))
        assert problem.startswith("REDIS_PASSWORD is refused by Redis at REDIS_SENTINELS, set the right one: ")


async def test_a_password_of_the_sentinels_in_a_file_is_read_each_time(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    path = tmp_path / "password"
    path.write_text(PASSWORD)
    secret = Secret.of_file("REDIS_SENTINEL_PASSWORD_FILE", path)
    with Sentinel(redis_server.port, 1, f"requirepass {PASSWORD}") as sentinel:
        async with opened(**by(sentinel) | {"redis_sentinel_password": secret}) as client:
            path.write_text(NEXT)
            await drop_connections(client, subscriptions=False)
            with pytest.raises(Unavailable, match="invalid username-password pair"):
                async with answered(10):
                    await client.ping()
            path.write_text(PASSWORD)
            async with answered(10):
                await client.ping()


async def test_sentinels_and_redis_take_each_others_place(redis_server: RedisServer, redis: Redis) -> None:
    with Sentinel(redis_server.port) as sentinel:
        problem = await refusal(redis_port=sentinel.port)
        assert problem == "REDIS_HOST leads to a sentinel: name it in REDIS_SENTINELS instead"
    address = f"{HOST}:{redis_server.port}"
    problem = await refusal(**by(redis_sentinels=address))
    wanted = "which is not a sentinel; sentinels use port 26379 unless configured otherwise"
    assert problem == f"REDIS_SENTINELS names {address}, {wanted}"


async def test_sentinels_with_tls(tls_redis: TlsRedis, authority: Authority) -> None:
    with TlsSentinel(tls_redis, authority) as sentinel:
        trust = {"redis_tls": "on", "redis_tls_ca": str(authority.path)}
        problem = await refusal(**by(sentinel, **trust))
        assert problem.startswith(f"the certificate of the sentinel {sentinel.address} is for another name, ")
        async with opened(**by(sentinel, **trust, redis_tls_server_name=LOCAL)) as client:
            await client.ping()
        assert await refusal(**by(sentinel)) == f"{sentinel.address} speaks TLS only: set REDIS_TLS=on"


async def test_a_redis_cluster() -> None:
    with RedisServer(tcp=True, config=("--cluster-enabled", "yes", "--cluster-port", str(free_port()))) as server:
        problem = await refusal(redis_port=server.port)
    assert problem == (
        "REDIS_HOST leads to a Redis Cluster, which can't be used: Peekaping's keys are in different slots, and one"
        " script needs them all; use a single Redis, with Sentinel to survive its death"
    )
