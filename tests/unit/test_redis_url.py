"""REDIS_URL: what it says, what may be set beside it, and that no password is shown."""

import os
from pathlib import Path

import pytest

from peekaping_producer.config.fields import Switch
from peekaping_producer.config.loading import load_redis_settings, masked
from peekaping_producer.config.redis_settings import RedisSettings
from peekaping_producer.config.secret import SecretUnreadable
from peekaping_producer.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("REDIS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> "Load":
    return Load(monkeypatch)


class Load:
    """Loads the settings of Redis from these variables alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, url: str = "", **variables: str) -> RedisSettings:
        for name, value in ({"REDIS_URL": url} | variables).items():
            self._monkeypatch.setenv(name, value)
        return load_redis_settings()

    def problems(self, url: str = "", **variables: str) -> tuple[str, ...]:
        with pytest.raises(ConfigurationError) as raised:
            self(url, **variables)
        assert "hush" not in f"{raised.value!r} {raised.value.__cause__!r} {raised.value.__context__!r}"
        return raised.value.problems


def test_a_url_in_place_of_its_file_is_not_shown(load: Load) -> None:
    (problem,) = load.problems(REDIS_URL_FILE="redis://:hush@cache:6379/0")
    assert problem == "REDIS_URL_FILE is wrong: must be the path of a file; not together with REDIS_URL"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", ("cache", 6379, None, None, 0, Switch.OFF)),
        ("redis://Cache:7000/3", ("cache", 7000, None, None, 3, Switch.OFF)),
        ("rediss://me:hush@cache", ("cache", 6379, "me", "hush", 0, Switch.ON)),
        ("redis://:h%40%2F%23sh%C3%A9@[::1]:7000/", ("::1", 7000, None, "h@/#shé", 0, Switch.OFF)),
        ("redis://cache?db=4", ("cache", 6379, None, None, 4, Switch.OFF)),
        ("unix:///run/redis.sock", ("/run/redis.sock", 6379, None, None, 0, Switch.OFF)),
        ("unix://me:hush@/run/redis.sock?db=2", ("/run/redis.sock", 6379, "me", "hush", 2, Switch.OFF)),
    ],
)
def test_what_a_url_says(load: Load, url: str, expected: tuple[object, ...]) -> None:
    settings = load(url)
    password = settings.redis_password.reveal() if settings.redis_password else None
    user, tls = settings.redis_username, settings.redis_tls
    assert (settings.redis_host, settings.redis_port, user, password, settings.redis_db, tls) == expected


@pytest.mark.parametrize(
    "url",
    [
        "cache",
        "http://me:hush@cache",
        "redis://:hush#1@cache",
        "redis://:hush@cache:70000",
        "redis://:hush@cache:0",
        "redis://:hush@cache/16",
        "redis://:hush@cache/3?db=4",
        "redis://:hush@cache?db=3&db=4",
        "redis://:hush@cache/0/1",
        "redis://:hush@cache?ssl_cert_reqs=none",
        "redis://:hush%ff@cache",
        "redis://:hush@",
        "redis://:hush@a b",
        "unix://redis.sock",
        "unix://",
    ],
)
def test_a_url_that_is_wrong_is_not_shown(load: Load, url: str) -> None:
    (problem,) = load.problems(url)
    assert problem == (
        "REDIS_URL is wrong: must be a URL such as rediss://user:password@host:6379/0 or unix:///path?db=0, special"
        " characters as %XX"
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REDIS_HOST", "other"),
        ("REDIS_PORT", "7001"),
        ("REDIS_DB", "4"),
        ("REDIS_USERNAME", "you"),
        ("REDIS_PASSWORD", "hush-hush"),
        ("REDIS_TLS", "off"),
    ],
)
def test_what_contradicts_a_url(load: Load, variable: str, value: str) -> None:
    problems = load.problems("rediss://me:hush@cache:7000/3", **{variable: value})
    assert problems == (f"{variable} contradicts REDIS_URL: remove one of them",)


@pytest.mark.parametrize(
    ("url", "variable", "value"),
    [
        ("redis://Me:hush@cache", "REDIS_USERNAME", "me"),
        ("unix:///run/Redis.sock", "REDIS_HOST", "/run/redis.sock"),
    ],
)
def test_case_counts_in_users_and_paths(load: Load, url: str, variable: str, value: str) -> None:
    assert load.problems(url, **{variable: value}) == (f"{variable} contradicts REDIS_URL: remove one of them",)


def test_what_says_the_same_may_be_set_beside_a_url(load: Load) -> None:
    same = {"REDIS_HOST": "Cache", "REDIS_PORT": "7000", "REDIS_DB": "3", "REDIS_TLS": "ON", "REDIS_USERNAME": "me"}
    assert load("rediss://me:hush@cache:7000/3", **same, REDIS_PASSWORD="hush").redis_host == "cache"


def test_what_a_url_leaves_out_may_be_set_beside_it(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("hush")
    settings = load("redis://cache", REDIS_PORT="7000", REDIS_DB="3", REDIS_PASSWORD_FILE=str(path))
    assert (settings.redis_host, settings.redis_port, settings.redis_db) == ("cache", 7000, 3)
    assert settings.redis_password
    assert settings.redis_password.reveal() == "hush"


def test_sentinels_beside_a_url(load: Load) -> None:
    (problem,) = load.problems("redis://:hush@cache", REDIS_SENTINELS="one:26379", REDIS_SENTINEL_MASTER="main")
    assert problem == "REDIS_SENTINELS is 'one:26379': must be host:port,host:port,…; not together with REDIS_URL"


def test_a_socket_has_no_tls(load: Load) -> None:
    (problem,) = load.problems("unix:///run/redis.sock", REDIS_TLS="on")
    assert problem == "REDIS_TLS is 'on': must be on or off; off with a Unix socket"


def test_a_url_in_a_file_is_read_again_for_each_password(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("rediss://me:hush@cache:7000/3\n")
    settings = load(REDIS_URL_FILE=str(path))
    password = settings.redis_password
    assert password
    assert (settings.redis_place, password.variable, password.reveal()) == ("REDIS_URL_FILE",) * 2 + ("hush",)
    path.write_text("rediss://me:hush-hush@cache:7000/3")
    assert password.reveal() == "hush-hush"
    for now, problem in {
        "rediss://me:hush@other:7000/3": "names another server, database or user now: restart the producer",
        "rediss://me@cache:7000/3": "names another server, database or user now: restart the producer",
        "hush": "does not hold a valid URL any more",
    }.items():
        path.write_text(now)
        with pytest.raises(SecretUnreadable) as raised:
            password.reveal()
        assert str(raised.value) == f"REDIS_URL_FILE {problem}"


def test_a_url_and_its_file(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("redis://:hush@cache")
    problems = load.problems("redis://:hush@cache", REDIS_URL_FILE=str(path))
    assert problems == ("REDIS_URL and REDIS_URL_FILE are both set: remove one of them",)


def test_a_password_file_that_is_missing_beside_a_url(load: Load) -> None:
    (problem,) = load.problems("redis://:hush@cache", REDIS_PASSWORD_FILE="nowhere")
    assert problem.startswith("REDIS_PASSWORD_FILE is 'nowhere', which can't be used: ")


def test_the_log_shows_what_a_url_says_without_the_password(load: Load) -> None:
    shown = masked(load("rediss://me:hush@cache:7000/3"))
    assert "hush" not in str(shown)
    assert (shown["REDIS_URL"], shown["REDIS_HOST"], shown["REDIS_PASSWORD"]) == ("***", "cache", "***")
