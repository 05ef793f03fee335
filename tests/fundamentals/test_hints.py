"""What can never work ends the start with exit code 2 and a line that says what to change."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

import peekaping_producer
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.errors import Unavailable
from peekaping_producer.leader.term import Term, Terms
from peekaping_producer.redisdb.client import answered
from peekaping_producer.timing import Timing
from support.certificates import Authority, database_authority
from support.databases import SqliteDatabase, mysql_database
from support.fleet import addressed
from support.mariadb import MariaDB
from support.producer import environment, run_to_the_end, started
from support.tls_servers import TlsRedis, TlsSecantus, need_redis_server

SECRET = "hush-hush"


def refusal(folder: Path, **variables: Any) -> str:
    """Run the producer until it ends by itself, with code 2; return its one line."""
    ended = run_to_the_end(folder, "run", **variables)
    assert ended.code == 2, ended.out + ended.err
    (problem,) = ended.problems
    assert SECRET not in ended.out + ended.err
    return problem


@contextmanager
def acl(server: RedisServer, *rules: str) -> Iterator[BlockingRedis]:
    """Change the rights of the user that clients have, by a client that is let in before."""
    with BlockingRedis(unix_socket_path=str(server.unix_socket)) as client:
        client.execute_command("ACL", "SETUSER", "default", *rules)
        yield client


def test_a_port_of_redis_that_speaks_tls_only(sqlite_db: SqliteDatabase, tmp_path: Path) -> None:
    need_redis_server()
    with TlsRedis(Authority(tmp_path)) as server:
        problem = refusal(tmp_path, **addressed(sqlite_db, server.port))
    assert problem == f"{HOST}:{server.port} speaks TLS only: set REDIS_TLS=on"


def test_a_port_of_mongodb_that_speaks_tls_only(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    address = {"DB_TYPE": "mongo", "DB_HOST": HOST, "DB_NAME": "peekaping", "DB_USER": "me", "DB_PASS": SECRET}
    with TlsSecantus() as server:
        problem = refusal(tmp_path, **address, DB_PORT=server.port, REDIS_PORT=redis_server.port)
    assert f"DB_PORT is {server.port}" in problem
    assert "speaks TLS only, set DB_TLS=require" in problem


async def test_a_mariadb_that_requires_tls(
    own_mysql_server: MariaDB, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    database = await mysql_database(own_mysql_server, rows=False)
    await database.execute("SET GLOBAL require_secure_transport = ON")
    address = addressed(database, redis_server.port)
    problem = refusal(tmp_path, **address)
    assert "if it requires TLS or a client certificate: DB_TLS, DB_TLS_CERT" in problem
    assert own_mysql_server.password not in problem
    certificates = {"DB_TLS": "verify-full", "DB_TLS_CA": database_authority().path}
    async with started(tmp_path, **address | certificates) as producer:
        await producer.until_logged("leadership taken")


@pytest.mark.parametrize("kind", ["postgres", "mysql", "mongo"])
def test_a_file_for_tls_that_is_not_there(tmp_path: Path, kind: str) -> None:
    address = {"DB_TYPE": kind, "DB_HOST": HOST, "DB_PORT": 1, "DB_NAME": "x", "DB_USER": "me", "DB_PASS": SECRET}
    path = tmp_path / "ca.pem"
    problem = refusal(tmp_path, **address, DB_TLS="verify-full", DB_TLS_CA=path)
    assert problem == f"DB_TLS_CA is '{path}', which can't be used: No such file or directory"


@pytest.mark.parametrize(("kind", "lacking"), [("mysql", "asyncmy cryptography"), ("mongo", "pymongo bson gridfs")])
def test_a_driver_that_is_not_installed(tmp_path: Path, kind: str, lacking: str) -> None:
    address = {"DB_TYPE": kind, "DB_HOST": HOST, "DB_PORT": 1, "DB_NAME": "x", "DB_USER": "me", "DB_PASS": SECRET}
    packages = tmp_path / "packages"
    packages.mkdir()
    for installed in Path(msgspec.__file__).parents[1].iterdir():
        if installed.name not in lacking.split():
            (packages / installed.name).symlink_to(installed)
    paths = f"{packages}{os.pathsep}{Path(peekaping_producer.__file__).parents[1]}"

    # With -S, without the folder of the installed packages.
    ended = subprocess.run(
        [sys.executable, "-S", "-m", "peekaping_producer", "run"],
        cwd=tmp_path,
        env=environment(**address, PYTHONPATH=paths, MODE="dev"),
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2, ended.stderr
    driver = f"pip install 'peekaping-producer[{kind}]'"
    assert ended.stderr == f"peekaping-producer: DB_TYPE is {kind}, and its driver is not installed: {driver}\n"


@pytest.mark.parametrize("command", ["evalsha", "subscribe", "publish", "script|load", "zadd"])
def test_a_redis_user_that_may_not_do_something(
    sqlite_db: SqliteDatabase, own_redis_server: RedisServer, tmp_path: Path, command: str
) -> None:
    with acl(own_redis_server, f"-{command}"):
        problem = refusal(tmp_path, **addressed(sqlite_db, own_redis_server.port))
    assert f"the Redis user lacks the right to {command.upper().replace('|', ' ')}, grant it by ACL" in problem


def test_all_that_a_redis_user_may_not_do_is_named_at_once(
    sqlite_db: SqliteDatabase, own_redis_server: RedisServer, tmp_path: Path
) -> None:
    with acl(own_redis_server, "-evalsha", "-publish", "-subscribe"):
        problem = refusal(tmp_path, **addressed(sqlite_db, own_redis_server.port))
    assert "EVALSHA, PUBLISH, SUBSCRIBE" in problem


def test_trying_the_rights_changes_nothing(
    sqlite_db: SqliteDatabase, own_redis_server: RedisServer, tmp_path: Path
) -> None:
    with acl(own_redis_server, "-subscribe") as client:
        refusal(tmp_path, **addressed(sqlite_db, own_redis_server.port))
        assert client.keys() == []


def test_no_password_where_one_is_needed(
    sqlite_db: SqliteDatabase, own_redis_server: RedisServer, tmp_path: Path
) -> None:
    with acl(own_redis_server, f">{SECRET}", "resetpass", f">{SECRET}"):
        problem = refusal(tmp_path, **addressed(sqlite_db, own_redis_server.port))
    assert "REDIS_PASSWORD is not set" in problem
    assert "HELLO" not in problem


def test_a_wrong_password(sqlite_db: SqliteDatabase, own_redis_server: RedisServer, tmp_path: Path) -> None:
    variables = addressed(sqlite_db, own_redis_server.port) | {"REDIS_PASSWORD": f"not-{SECRET}"}
    with acl(own_redis_server, "resetpass", f">{SECRET}"):
        problem = refusal(tmp_path, **variables)
    assert "REDIS_PASSWORD is refused" in problem


def test_a_database_number_that_redis_does_not_have(sqlite_db: SqliteDatabase, tmp_path: Path) -> None:
    with RedisServer(tcp=True, config=("--databases", "4")) as server:
        problem = refusal(tmp_path, **addressed(sqlite_db, server.port) | {"REDIS_DB": 9})
    assert "REDIS_DB is beyond" in problem


async def test_a_deadline_that_has_passed_is_not_reported_as_0_seconds(redis: Redis) -> None:
    term = Term("node-1a", lasts_until_s=0)
    with pytest.raises(Unavailable) as raised:
        await Terms(redis, "node-1a", Timing()).extend(term)
    assert raised.value.reason == "no answer in time"
    with contextlib.suppress(Unavailable):
        async with answered(0):
            await redis.ping()
