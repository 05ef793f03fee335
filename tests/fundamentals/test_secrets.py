"""No secret is in anything that a start writes or shows, whether it fails or works."""

from pathlib import Path
from typing import Any

import pytest

from peekaping_producer.config.settings import SECRETS
from peekaping_producer.demo.redis_server import HOST, RedisServer
from support.databases import PostgresDatabase
from support.fleet import addressed
from support.nodes import connected
from support.producer import Ended, run_here, run_to_the_end, started
from support.sentinels import MASTER, Sentinel

SECRET = "hush"
"""A part of every secret here."""
SQLITE = {"DB_TYPE": "sqlite", "DB_NAME": "monitors.db"}
SERVER = {"DB_TYPE": "postgres", "DB_HOST": HOST, "DB_PORT": "1", "DB_USER": "me", "DB_NAME": "peekaping"}
SENTINELS = {"REDIS_SENTINELS": f"{HOST}:1", "REDIS_SENTINEL_MASTER": MASTER}
PASSWORDS = {
    "DB_PASS": "hush-database",
    "REDIS_PASSWORD": "hush-redis",
    "REDIS_SENTINEL_PASSWORD": "hush-sentinel",
    "PRODUCER_HTTP_TOKEN": "hush-token-of-the-page",
}
URL = {"REDIS_URL": "redis://me:hush-url@127.0.0.1:1/0"}
ELSEWHERE = ("DB_HOST", "DB_USER", "DB_NAME", "REDIS_HOST", "REDIS_SENTINELS", "REDIS_USERNAME", "REDIS_TLS_CA")
ALL = SERVER | SENTINELS | PASSWORDS

WRONG: dict[str, dict[str, str]] = {
    "another setting is wrong": ALL | {"REDIS_DB": "99", "TZ": "Mars"},
    "no settings but secrets": PASSWORDS,
    "in quotes": ALL | {name: f"'{secret}'" for name, secret in PASSWORDS.items()},
    "not UTF-8": ALL | {name: f"{secret}\udcff" for name, secret in PASSWORDS.items()},
    "in both forms": ALL | {f"{name}_FILE": "secret" for name in PASSWORDS},
    "in a file that is not UTF-8": SERVER | SENTINELS | {f"{name}_FILE": "broken" for name in PASSWORDS},
    "under misspelled names": SERVER | {"DB_PASSWORD": "hush", "REDIS_PASS": "hush", "REDIS_URI": "redis://:hush@a"},
    "a URL in the place of something else": SERVER | dict.fromkeys(ELSEWHERE, URL["REDIS_URL"]),
    "a URL that is wrong": SQLITE | {"REDIS_URL": "redis://me:hush#hush@127.0.0.1"},
    "a URL with a wrong database": SQLITE | {"REDIS_URL": "redis://me:hush@127.0.0.1/99"},
    "a URL that something contradicts": SQLITE | URL | {"REDIS_HOST": "other", "REDIS_PASSWORD": "hush-redis"},
    "a URL and its file": SQLITE | URL | {"REDIS_URL_FILE": "url"},
    "a wrong URL in a file": SQLITE | {"REDIS_URL_FILE": "secret"},
    "a URL in a file that something contradicts": SQLITE | {"REDIS_URL_FILE": "url", "REDIS_PASSWORD_FILE": "secret"},
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Make a folder with files that hold secrets, and a `.env` with one in a line that makes no sense."""
    (tmp_path / "secret").write_text("hush-file\n")
    (tmp_path / "url").write_text(URL["REDIS_URL"])
    (tmp_path / "broken").write_bytes(b"hush\xff")
    return tmp_path


def assert_hidden(ended: Ended) -> None:
    """Assert that nothing the process wrote holds a secret, and that it wrote why it ended."""
    assert ended.code == 2, ended.err
    assert ended.problems
    assert SECRET not in ended.out + ended.err


def test_every_secret_is_tried_here() -> None:
    assert {name.upper() for name in SECRETS} == PASSWORDS.keys() | URL.keys()


@pytest.mark.parametrize("mode", ["dev", "prod"])
@pytest.mark.parametrize("variables", WRONG.values(), ids=WRONG)
def test_a_start_with_wrong_settings_shows_no_secret(files: Path, variables: dict[str, str], mode: str) -> None:
    for command in ("run", "check", "status"):
        ended = run_here(files, command, **{"REDIS_HOST": ""} | variables | {"MODE": mode})
        assert SECRET not in ended.out + ended.err
        assert ended.out + ended.err
        assert ended.code == 2 or command == "status", ended.err  # which needs none of the database's


def test_a_broken_env_file_shows_no_secret(files: Path) -> None:
    (files / ".env").write_text("REDIS_PASSWORD='hush\nDB_PASS=hush\n")
    assert_hidden(run_here(files, "run", **SERVER))


@pytest.mark.parametrize("mode", ["dev", "prod"])
def test_a_login_that_is_refused_shows_no_secret(own_redis_server: RedisServer, files: Path, mode: str) -> None:
    url = f"redis://me:hush-url@{HOST}:{own_redis_server.port}"
    ended = run_to_the_end(files, "run", **SQLITE, REDIS_HOST="", REDIS_URL=url, MODE=mode, LOG_LEVEL="debug")
    assert_hidden(ended)
    assert "REDIS_URL is refused by Redis at REDIS_URL" in ended.err


async def test_a_producer_at_work_shows_no_secret(
    empty_postgres_db: PostgresDatabase, own_redis_server: RedisServer, files: Path
) -> None:
    passwords = {name: files / name for name in PASSWORDS}
    for name, path in passwords.items():
        path.write_text(PASSWORDS[name])
    options = (
        f"requirepass {PASSWORDS['REDIS_SENTINEL_PASSWORD']}",
        f"sentinel auth-pass {MASTER} {PASSWORDS['REDIS_PASSWORD']}",
    )
    async with connected(own_redis_server.port) as redis:
        await redis.config_set("requirepass", PASSWORDS["REDIS_PASSWORD"])
        with Sentinel(own_redis_server.port, 1, *options) as sentinel:
            variables: dict[str, Any] = addressed(empty_postgres_db, 0) | {"REDIS_PORT": "", "LOG_LEVEL": "debug"}
            variables |= SENTINELS | {"REDIS_SENTINELS": sentinel.address, "DB_PASS": ""}
            variables |= {f"{name}_FILE": path for name, path in passwords.items()}
            async with started(files, **variables) as producer:
                await producer.until_logged("leadership taken")
                process = Path(f"/proc/{producer.pid}")
                title = (process / "cmdline").read_text() + (process / "comm").read_text()
                passwords["REDIS_SENTINEL_PASSWORD"].write_text("hush-wrong")
                await redis.client_kill_filter(_type="normal")
                await producer.until_logged("redis unavailable")
                assert await producer.stop() == 0
    [settings] = producer.logged("settings loaded")
    assert {settings[name] for name in PASSWORDS} == {"***"}
    assert SECRET not in str(producer.lines) + producer.err + title
