"""The settings: each variable's rule (docs/protocol.md, section 5), where values come from, what errors say."""

import codecs
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from pydantic import ValidationError

from peekaping_producer.config.addresses import Address
from peekaping_producer.config.fields import Switch
from peekaping_producer.config.loading import load_redis_settings, load_settings, masked, unknown_variables
from peekaping_producer.config.secret import SecretUnreadable
from peekaping_producer.config.settings import SECRETS, DbTls, DbType, LogLevel, Mode, ScheduleMode, Settings
from peekaping_producer.config.variables import ENV_FILE
from peekaping_producer.errors import ConfigurationError

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"
SERVER = {"DB_HOST": "db", "DB_PORT": "5432", "DB_USER": "peekaping", "DB_PASS": "hush", "DB_NAME": "peekaping"}
POSTGRES = {"DB_TYPE": "postgres"} | SERVER
SQLITE = {"DB_TYPE": "sqlite", "DB_NAME": "/data/peekaping.db"}


class Place:
    """A working directory and an environment that hold nothing but what a test puts there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self.env_file = folder / ".env"

    def load(self, environment: dict[str, str]) -> Settings:
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)
        return load_settings()

    def problems(self, environment: dict[str, str]) -> tuple[str, ...]:
        with pytest.raises(ConfigurationError) as caught:
            self.load(environment)
        assert all("\n" not in problem for problem in caught.value.problems)
        return caught.value.problems


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    prefixes = tuple({field.upper().partition("_")[0] for field in Settings.model_fields})
    for name in [name for name in os.environ if name.upper().startswith(prefixes)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Place(monkeypatch, tmp_path)


def test_the_defaults_of_a_minimal_setup(place: Place) -> None:
    settings = place.load(SQLITE)
    assert settings.model_dump() == {
        "db_type": DbType.SQLITE,
        "db_host": None,
        "db_port": None,
        "db_user": None,
        "db_pass": None,
        "db_pass_file": None,
        "db_name": "/data/peekaping.db",
        "db_schema": None,
        "db_statement_cache": Switch.ON,
        "db_tls": None,
        "db_tls_ca": None,
        "db_tls_cert": None,
        "db_tls_key": None,
        "db_auth_source": None,
        "db_replica_set": None,
        "redis_host": "redis",
        "redis_port": 6379,
        "redis_username": None,
        "redis_password": None,
        "redis_password_file": None,
        "redis_db": 0,
        "redis_url": None,
        "redis_url_file": None,
        "redis_tls": Switch.OFF,
        "redis_tls_ca": None,
        "redis_tls_cert": None,
        "redis_tls_key": None,
        "redis_tls_server_name": None,
        "redis_sentinels": None,
        "redis_sentinel_master": None,
        "redis_sentinel_username": None,
        "redis_sentinel_password": None,
        "redis_sentinel_password_file": None,
        "producer_concurrency": 10,
        "producer_cache_mb": 64,
        "producer_schedule": ScheduleMode.AUTO,
        "producer_retry_interval": Switch.OFF,
        "producer_alive_file": None,
        "producer_http_host": "127.0.0.1",
        "producer_http_port": None,
        "producer_http_token": None,
        "producer_http_token_file": None,
        "mode": Mode.DEV,
        "log_level": LogLevel.DEBUG,
        "tz": ZoneInfo("UTC"),
        "service_name": "peekaping:producer",
    }


def test_every_variable_is_taken(place: Place) -> None:
    settings = place.load(
        POSTGRES
        | {
            "DB_SCHEMA": "watch",
            "DB_STATEMENT_CACHE": "off",
            "DB_TLS": "Verify-Full",
            "DB_TLS_CA": "/db/ca.pem",
            "DB_TLS_CERT": "/db/cert.pem",
            "DB_TLS_KEY": "/db/key.pem",
            "REDIS_HOST": "cache",
            "REDIS_PORT": "6380",
            "REDIS_USERNAME": "checks",
            "REDIS_PASSWORD": "quiet",
            "REDIS_DB": "15",
            "REDIS_TLS": "on",
            "REDIS_TLS_CA": "/tls/ca.pem",
            "REDIS_TLS_CERT": "/tls/cert.pem",
            "REDIS_TLS_KEY": "/tls/key.pem",
            "REDIS_TLS_SERVER_NAME": "primary.example.org",
            "REDIS_SENTINELS": "one:26380, two,[::1]:7",
            "REDIS_SENTINEL_MASTER": "main",
            "REDIS_SENTINEL_USERNAME": "watcher",
            "REDIS_SENTINEL_PASSWORD": "still",
            "PRODUCER_CONCURRENCY": "128",
            "PRODUCER_CACHE_MB": "7",
            "PRODUCER_SCHEDULE": "aligned",
            "PRODUCER_RETRY_INTERVAL": "on",
            "PRODUCER_ALIVE_FILE": "/run/alive",
            "PRODUCER_HTTP_HOST": "::1",
            "PRODUCER_HTTP_PORT": "8035",
            "PRODUCER_HTTP_TOKEN": "a token for the page",
            "MODE": "prod",
            "LOG_LEVEL": "error",
            "TZ": "Europe/Berlin",
            "SERVICE_NAME": "checks",
        }
    )
    assert settings.db_pass is not None
    assert settings.redis_password is not None
    assert (settings.db_pass.reveal(), settings.redis_password.reveal()) == ("hush", "quiet")
    assert settings.redis_sentinel_password is not None
    assert settings.redis_sentinel_password.reveal() == "still"
    assert settings.model_dump(exclude_none=True, exclude=set(SECRETS)) == {
        "db_type": DbType.POSTGRES,
        "db_host": "db",
        "db_port": 5432,
        "db_user": "peekaping",
        "db_name": "peekaping",
        "db_schema": "watch",
        "db_statement_cache": Switch.OFF,
        "db_tls": DbTls.VERIFY_FULL,
        "db_tls_ca": "/db/ca.pem",
        "db_tls_cert": "/db/cert.pem",
        "db_tls_key": "/db/key.pem",
        "redis_host": "cache",
        "redis_port": 6380,
        "redis_username": "checks",
        "redis_db": 15,
        "redis_tls": Switch.ON,
        "redis_tls_ca": "/tls/ca.pem",
        "redis_tls_cert": "/tls/cert.pem",
        "redis_tls_key": "/tls/key.pem",
        "redis_tls_server_name": "primary.example.org",
        "redis_sentinels": (Address("one", 26380), Address("two", 26379), Address("::1", 7)),
        "redis_sentinel_master": "main",
        "redis_sentinel_username": "watcher",
        "producer_concurrency": 128,
        "producer_cache_mb": 7,
        "producer_schedule": ScheduleMode.ALIGNED,
        "producer_retry_interval": Switch.ON,
        "producer_alive_file": "/run/alive",
        "producer_http_host": "::1",
        "producer_http_port": 8035,
        "mode": Mode.PROD,
        "log_level": LogLevel.ERROR,
        "tz": ZoneInfo("Europe/Berlin"),
        "service_name": "checks",
    }


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("DB_TYPE", "postgresql", DbType.POSTGRES),
        ("DB_TYPE", "mongodb", DbType.MONGO),
        ("DB_TYPE", "mongo", DbType.MONGO),
        ("DB_TYPE", "mysql", DbType.MYSQL),
        ("DB_TYPE", "  SQLite ", DbType.SQLITE),
        ("MODE", " PROD\t", Mode.PROD),
        ("MODE", "Test", Mode.TEST),
        ("LOG_LEVEL", "info", LogLevel.INFO),
        ("LOG_LEVEL", "warn", LogLevel.WARNING),
        ("LOG_LEVEL", " Warning", LogLevel.WARNING),
        ("LOG_LEVEL", "dpanic", LogLevel.ERROR),
        ("LOG_LEVEL", "PANIC", LogLevel.ERROR),
        ("LOG_LEVEL", "fatal", LogLevel.ERROR),
        ("REDIS_HOST", " cache ", "cache"),
        ("REDIS_HOST", "::1", "::1"),
        ("REDIS_HOST", "/run/redis/redis.sock", "/run/redis/redis.sock"),
        ("DB_HOST", "/run/postgresql", "/run/postgresql"),
        ("DB_NAME", "with a blank ", "with a blank "),
        ("DB_PORT", "1", 1),
        ("DB_PORT", "65535", 65535),
        ("REDIS_PORT", " 6380 ", 6380),
        ("REDIS_DB", "0", 0),
        ("REDIS_DB", "15", 15),
        ("PRODUCER_CONCURRENCY", "1", 1),
        ("PRODUCER_CONCURRENCY", "128", 128),
        ("PRODUCER_CACHE_MB", "0", 0),
        ("PRODUCER_CACHE_MB", "65536", 65_536),
        ("TZ", "America/Argentina/Ushuaia", ZoneInfo("America/Argentina/Ushuaia")),
    ],
)
def test_a_value_that_is_allowed(place: Place, variable: str, text: str, value: object) -> None:
    assert getattr(place.load(POSTGRES | {variable: text}), variable.lower()) == value


HOST = "must be a host name, or the path of a Unix socket"
SENTINELS = "must be host:port,host:port,…; not together with REDIS_URL"
PEM = "must be the path of a PEM file; only with REDIS_TLS=on"
PORT = "must be a whole number from 1 to 65535"


@pytest.mark.parametrize(
    ("variable", "text", "rule"),
    [
        ("DB_TYPE", "oracle", "must be one of postgres, postgresql, mysql, sqlite, mongo, mongodb"),
        ("DB_PORT", "0", PORT),
        ("DB_PORT", "65536", PORT),
        ("REDIS_PORT", "abc", PORT),
        ("REDIS_PORT", "-1", PORT),
        ("REDIS_PORT", "6379.0", PORT),
        ("REDIS_PORT", "6_379", PORT),
        ("REDIS_PORT", "٦٣٧٩", PORT),
        ("REDIS_DB", "16", "must be a whole number from 0 to 15"),
        ("PRODUCER_CONCURRENCY", "0", "must be a whole number from 1 to 128"),
        ("PRODUCER_CONCURRENCY", "129", "must be a whole number from 1 to 128"),
        ("PRODUCER_CACHE_MB", "65537", "must be a whole number from 0 to 65536"),
        ("PRODUCER_HTTP_HOST", "localhost", "must be an IP address of this host"),
        ("PRODUCER_HTTP_PORT", "0", "must be a whole number from 1 to 65535"),
        ("PRODUCER_CACHE_MB", "0.5", "must be a whole number from 0 to 65536"),
        ("PRODUCER_CACHE_MB", "64MB", "must be a whole number from 0 to 65536"),
        ("MODE", "production", "must be one of dev, prod, test"),
        ("LOG_LEVEL", "trace", "must be one of debug, info, warn, warning, error, dpanic, panic, fatal"),
        ("REDIS_HOST", " ", HOST),
        ("REDIS_HOST", "redis:6379 or so", HOST),
        ("REDIS_HOST", "redis://cache", HOST),
        ("REDIS_HOST", "redis/redis.sock", HOST),
        ("REDIS_HOST", "redis.sock/", HOST),
        ("REDIS_TLS", "yes", "must be on or off; off with a Unix socket"),
        ("REDIS_TLS_CA", "/ca.pem", PEM),
        ("REDIS_TLS_CERT", "/cert.pem", PEM),
        ("REDIS_TLS_KEY", "/key.pem", "must be the path of a PEM file; only with REDIS_TLS_CERT"),
        ("REDIS_TLS_SERVER_NAME", "primary", "must be a host name; only with REDIS_TLS=on"),
        ("REDIS_SENTINEL_MASTER", "main", "must be a name; only with REDIS_SENTINELS"),
        ("REDIS_SENTINEL_USERNAME", "me", "must be a user name; only with REDIS_SENTINELS"),
        ("DB_HOST", "d\udcffb", HOST),
        ("DB_HOST", "a..b", HOST),
        ("REDIS_HOST", "x" * 64, HOST),
        ("DB_USER", "  ", "must be a user name"),
        ("DB_NAME", " \t", "must be a database name, or a path for sqlite"),
        ("DB_NAME", "peek\udcff", "must be a database name, or a path for sqlite"),
        ("TZ", "Mars/Olympus", "must be an IANA time zone name, such as Europe/Berlin"),
        ("TZ", "../../etc/passwd", "must be an IANA time zone name, such as Europe/Berlin"),
    ],
)
def test_a_value_that_is_not_allowed(place: Place, variable: str, text: str, rule: str) -> None:
    assert place.problems(POSTGRES | {variable: text}) == (f"{variable} is {text!r}: {rule}",)


@pytest.mark.parametrize("text", ["a:b", "a:65536", "a,", "::1", "a b", "a:1/0", "?a"])
def test_a_list_of_sentinels_that_is_not_allowed(place: Place, text: str) -> None:
    problems = place.problems(POSTGRES | {"REDIS_SENTINELS": text, "REDIS_SENTINEL_MASTER": "main"})
    assert problems == (f"REDIS_SENTINELS is {text!r}: {SENTINELS}",)


def test_a_long_wrong_value_is_shortened(place: Place) -> None:
    (problem,) = place.problems(SQLITE | {"REDIS_PORT": "9" * 6000})
    assert problem == f"REDIS_PORT is '{'9' * 80}…': must be a whole number from 1 to 65535"


def test_all_that_is_wrong_or_missing_is_said_at_once(place: Place) -> None:
    problems = place.problems({"DB_TYPE": "postgress", "REDIS_PORT": "abc", "MODE": "x\ny", "DB_PASS": "hush"})
    assert problems == (
        "DB_TYPE is 'postgress': must be one of postgres, postgresql, mysql, sqlite, mongo, mongodb",
        "DB_HOST is not set: required unless DB_TYPE is sqlite, a host name, or the path of a Unix socket",
        "DB_PORT is not set: required unless DB_TYPE is sqlite, a whole number from 1 to 65535",
        "DB_USER is not set: required unless DB_TYPE is sqlite, a user name",
        "DB_NAME is not set: required, a database name, or a path for sqlite",
        "REDIS_PORT is 'abc': must be a whole number from 1 to 65535",
        "MODE is 'x\\ny': must be one of dev, prod, test",
    )


def test_nothing_set_at_all(place: Place) -> None:
    missing = [problem.split()[0] for problem in place.problems({})]
    assert missing == ["DB_TYPE", "DB_HOST", "DB_PORT", "DB_USER", "DB_PASS", "DB_NAME"]


@pytest.mark.parametrize("kind", ["postgres", "mysql", "mongodb"])
@pytest.mark.parametrize("variable", list(SERVER))
def test_a_server_needs_each_of_its_variables(place: Place, kind: str, variable: str) -> None:
    (problem,) = place.problems(SERVER | {"DB_TYPE": kind, variable: ""})
    assert problem.startswith(f"{variable} is not set: required")


@pytest.mark.parametrize("variable", ["DB_HOST", "DB_PORT", "DB_USER", "DB_PASS", "DB_TLS", "DB_TLS_CA", "DB_TLS_KEY"])
@pytest.mark.parametrize("value", ["tcp://10.0.0.1:5432", "x://me:hush@there", "  ", "d\udcffb", "0", "'5432'", "a..b"])
def test_sqlite_ignores_the_variables_of_a_server(place: Place, variable: str, value: str) -> None:
    settings = place.load(SQLITE | {variable: value})
    assert (settings.db_host, settings.db_port, settings.db_user, settings.db_pass) == (None, None, None, None)
    assert (settings.db_tls, settings.db_tls_ca, settings.db_tls_key) == (None, None, None)


def test_sqlite_ignores_the_variables_of_a_server_in_the_env_file_too(place: Place) -> None:
    place.env_file.write_text("DB_TYPE=' SQLite'\nDB_NAME=x.db\nDB_PORT=default\nDB_HOST=a\0b\nDB_USER=' '\n")
    assert (place.load({}).db_port, place.load({}).db_host) == (None, None)


def test_what_leads_to_redis_needs_nothing_else(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PORT", "7000")
    monkeypatch.setenv("DB_PORT", "wrong")
    place.env_file.write_text("DB_TYPE=nothing\nREDIS_HOST=queue.example.org\nREDIS_PASSWORD=hush\n")
    redis = load_redis_settings(place.env_file)
    assert (redis.redis_host, redis.redis_port, redis.redis_db) == ("queue.example.org", 7000, 0)
    assert redis.redis_password
    assert redis.redis_password.reveal() == "hush"
    monkeypatch.setenv("REDIS_PORT", "70000")
    with pytest.raises(ConfigurationError) as raised:
        load_redis_settings(place.env_file)
    assert raised.value.problems == ("REDIS_PORT is '70000': must be a whole number from 1 to 65535",)


def test_names_are_case_sensitive(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.env_file.write_text("DB_TYPE=sqlite\nDB_NAME=x.db\ntz=nonsense\nRedis_Host=theirs\n")
    monkeypatch.setenv("redis_port", "7000")
    monkeypatch.setenv("mode", "prod")
    monkeypatch.setenv("Tz", "Europe/Berlin")
    settings = place.load({})
    assert (settings.tz, settings.redis_host, settings.redis_port) == (ZoneInfo("UTC"), "redis", 6379)
    assert settings.mode is Mode.DEV
    assert [(unknown.name, unknown.nearest) for unknown in unknown_variables()] == [
        ("Redis_Host", "REDIS_HOST"),
        ("redis_port", "REDIS_PORT"),
    ]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("DB_PASSWORD", "DB_PASS"),
        ("DB_USERNAME", "DB_USER"),
        ("DB_HOTS", "DB_HOST"),
        ("REDIS_PASS", "REDIS_PASSWORD"),
        ("PRODUCER_CONCURENCY", "PRODUCER_CONCURRENCY"),
        ("PRODUCER_COLOUR_OF_THE_DOOR", None),
        ("DB_PORT_", "DB_PORT"),
        ("REDIS_SERVER_PORT", "REDIS_PORT"),
    ],
)
def test_an_unknown_name_and_the_nearest_known_one(place: Place, name: str, nearest: str | None) -> None:
    place.load(SQLITE | {name: "hush"})
    (unknown,) = unknown_variables()
    assert (unknown.name, unknown.nearest) == (name, nearest)
    assert "hush" not in f"{unknown} {unknown!r}"


def test_an_unknown_name_is_reported_beside_what_it_leaves_unset(place: Place) -> None:
    problems = place.problems(SERVER | {"DB_TYPE": "mysql", "DB_PASS": "", "DB_PASSWORD": "hush"})
    assert problems == (
        "DB_PASS is not set: required unless DB_TYPE is sqlite, a password",
        "DB_PASSWORD is set, but is not a variable of the producer: did you mean DB_PASS?",
    )


OF_OTHERS = {
    # What Kubernetes sets for a service of the name `redis-master`, and what Peekaping's other images read.
    "REDIS_MASTER_SERVICE_HOST": "10.0.0.1",
    "REDIS_MASTER_SERVICE_PORT": "6379",
    "REDIS_MASTER_SERVICE_PORT_TCP_REDIS": "6379",
    "REDIS_MASTER_PORT": "tcp://10.0.0.1:6379",
    "REDIS_MASTER_PORT_6379_TCP": "tcp://10.0.0.1:6379",
    "REDIS_MASTER_PORT_6379_TCP_ADDR": "10.0.0.1",
    "DB_ADMIN_USER": "admin",
    "DB_ADMIN_PASS": "hush",
    "POSTGRES_PASSWORD": "hush",
    "SERVER_PORT": "8034",
    "CLIENT_URL": "http://localhost:5173",
}


def test_variables_of_other_programs_are_not_misspellings(place: Place) -> None:
    place.load(SQLITE | OF_OTHERS)
    assert unknown_variables() == []


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize("variable", ["DB_TYPE", "DB_NAME", "REDIS_PORT", "TZ", "SERVICE_NAME"])
def test_a_value_in_quotes_says_so(place: Place, quote: str, variable: str) -> None:
    value = {"DB_TYPE": "sqlite", "DB_NAME": "x.db", "REDIS_PORT": "6380", "TZ": "UTC", "SERVICE_NAME": "checks"}
    (problem,) = place.problems(SQLITE | {variable: f"{quote}{value[variable]}{quote}"})
    assert problem.startswith(f"{variable} is in quotes")
    assert "docker --env-file" in problem


def test_empty_quotes_are_quotes(place: Place) -> None:
    (problem,) = place.problems(SQLITE | {"REDIS_PASSWORD": '""'})
    assert problem.startswith("REDIS_PASSWORD is in quotes")


def test_a_password_in_quotes_says_so_and_may_have_them_in_the_env_file(place: Place) -> None:
    (problem,) = place.problems(SQLITE | {"REDIS_PASSWORD": "'hush'"})
    assert problem.startswith("REDIS_PASSWORD is in quotes")
    assert "hush" not in problem
    place.env_file.write_text("REDIS_PASSWORD='\"hush\"'\n")
    secret = place.load(SQLITE | {"REDIS_PASSWORD": ""}).redis_password
    assert secret is not None
    assert secret.reveal() == '"hush"'


def test_unknown_variables_are_ignored(place: Place) -> None:
    place.env_file.write_text("DB_COLOUR=red\n_ENV_FILE=elsewhere\nMODEL_CONFIG=1\n")
    assert place.load(SQLITE | {"DB_SHAPE": "round"}).db_type is DbType.SQLITE


def test_the_env_file_of_the_working_directory_is_read(place: Place) -> None:
    place.env_file.write_text("# ours\nDB_TYPE=sqlite\r\nexport DB_NAME = 'a b.db' # the file\nREDIS_DB=3\n")
    settings = place.load({})
    assert (settings.db_type, settings.db_name, settings.redis_db) == (DbType.SQLITE, "a b.db", 3)
    assert Path(".env") == ENV_FILE


def test_a_byte_order_mark_is_not_part_of_the_first_name(place: Place) -> None:
    place.env_file.write_bytes(b"\xef\xbb\xbfDB_TYPE=sqlite\nDB_NAME=caf\xc3\xa9.db\n")
    assert place.load({}).db_name == "café.db"


def test_the_environment_wins_over_the_env_file(place: Place) -> None:
    place.env_file.write_text("REDIS_DB=3\nREDIS_HOST=theirs\nMODE=nonsense\n")
    settings = place.load(SQLITE | {"REDIS_DB": "4", "MODE": "prod"})
    assert (settings.redis_db, settings.redis_host, settings.mode) == (4, "theirs", Mode.PROD)


def test_an_empty_variable_counts_as_unset(place: Place) -> None:
    place.env_file.write_text("REDIS_DB=3\nREDIS_PORT=\nREDIS_PASSWORD\n")
    settings = place.load(SQLITE | {"REDIS_DB": "", "REDIS_PORT": "", "MODE": "", "REDIS_PASSWORD": "", "TZ": ""})
    assert (settings.redis_db, settings.redis_port, settings.mode) == (3, 6379, Mode.DEV)
    assert settings.redis_password is None
    assert settings.tz == ZoneInfo("UTC")


def test_an_empty_value_in_the_env_file_is_a_missing_one(place: Place) -> None:
    place.env_file.write_text("DB_TYPE=sqlite\nDB_NAME=''\n")
    assert place.problems({}) == ("DB_NAME is not set: required, a database name, or a path for sqlite",)


def test_a_reference_in_the_env_file_is_replaced_outside_single_quotes(place: Place) -> None:
    place.env_file.write_text("KIND=lite\nDB_TYPE=sq${KIND}\nDB_NAME=\"${KIND}.db\"\nREDIS_HOST='${KIND}'\n")
    settings = place.load({})
    assert (settings.db_type, settings.db_name, settings.redis_host) == (DbType.SQLITE, "lite.db", "${KIND}")


PASSWORDS = ["pa${HOME}ss", "a b#c #d", "$x`y`", '"', "=;:@/?%41&", "é😀", "{'a': 1}", "null", "  ", "\\n"]


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_may_contain_anything(place: Place, password: str) -> None:
    secret = place.load(POSTGRES | {"DB_PASS": password}).db_pass
    assert secret is not None
    assert secret.reveal() == password


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_in_single_quotes_may_hold_anything_in_the_env_file(place: Place, password: str) -> None:
    written = password.replace("\\", "\\\\").replace("'", "\\'")
    place.env_file.write_text(f"REDIS_PASSWORD=earlier\nREDIS_PASSWORD='{written}'\n")
    secret = place.load(SQLITE).redis_password
    assert secret is not None
    assert secret.reveal() == password


@contextmanager
def _no_superuser() -> Iterator[None]:
    """Be `nobody` for a moment where the tests run as root, who may read everything."""
    codecs.lookup("utf-8-sig")  # `nobody` may not be able to import it
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_an_env_file_that_is_a_folder(place: Place) -> None:
    place.env_file.mkdir()
    assert place.problems({}) == (".env can't be read: Is a directory; fix or remove it",)


def test_an_env_file_that_is_not_utf8(place: Place) -> None:
    place.env_file.write_bytes(b"DB_PASS=\xff\n")
    assert place.problems(SQLITE) == (".env can't be read: it is not UTF-8; fix or remove it",)


def test_an_env_file_that_may_not_be_read(place: Place) -> None:
    place.env_file.write_text("DB_TYPE=sqlite\n")
    place.env_file.chmod(0)
    with _no_superuser():
        assert place.problems(SQLITE) == (".env can't be read: Permission denied; fix or remove it",)


def test_an_env_file_whose_links_go_round(place: Place) -> None:
    place.env_file.symlink_to(place.env_file)
    (problem,) = place.problems(SQLITE)
    assert problem.startswith(".env can't be read: ")


def test_a_line_of_the_env_file_that_makes_no_sense_is_named_without_its_text(place: Place) -> None:
    place.env_file.write_text("DB_TYPE=sqlite\nREDIS_PASSWORD='hush\nMODE=loud\n")
    problems = place.problems({"DB_NAME": "x"})
    assert problems == (
        ".env line 2 can't be understood: must be NAME=value, with every quote closed",
        "MODE is 'loud': must be one of dev, prod, test",
    )


def test_no_password_is_in_what_is_shown(place: Place) -> None:
    settings = place.load(POSTGRES | {"DB_PASS": "hush-db", "REDIS_PASSWORD": "hush-redis"})
    assert "hush" not in f"{settings!r} {settings} {settings.model_dump()}"


def test_no_password_is_in_an_error(place: Place) -> None:
    with pytest.raises(ConfigurationError) as caught:
        place.load({"DB_PASS": "hush-db", "REDIS_PASSWORD": "hush-redis", "REDIS_DB": "99"})
    error = caught.value
    assert "REDIS_DB" in str(error)
    assert "hush" not in f"{error!r} {error} {error.__cause__!r} {error.__context__!r}"


@pytest.mark.parametrize("variable", ["DB_PASS", "REDIS_PASSWORD"])
def test_a_password_that_is_not_utf8_is_refused_and_not_shown(place: Place, variable: str) -> None:
    assert place.problems(POSTGRES | {variable: "hush\udcff"}) == (f"{variable} is wrong: must be a password",)


def test_a_token_that_could_be_guessed_is_refused_and_not_shown(place: Place, tmp_path: Path) -> None:
    problem = "PRODUCER_HTTP_TOKEN is wrong: must be at least 16 characters long"
    assert place.problems(SQLITE | {"PRODUCER_HTTP_TOKEN": "hush-hush-hush-"}) == (problem,)
    path = tmp_path / "token"
    path.write_text("hush-hush-hush-\n")
    assert place.problems(with_file("PRODUCER_HTTP_TOKEN", path)) == (problem,)
    path.write_text("hush-hush-hush-h\n")
    assert place.load(with_file("PRODUCER_HTTP_TOKEN", path)).producer_http_token


IN_FILES = ["DB_PASS", "REDIS_PASSWORD", "REDIS_SENTINEL_PASSWORD", "PRODUCER_HTTP_TOKEN"]


def with_file(variable: str, path: Path) -> dict[str, str]:
    """Return the variables of a whole setup in which a file holds a secret."""
    sentinels = {"REDIS_SENTINELS": "one:26379", "REDIS_SENTINEL_MASTER": "main"}
    return POSTGRES | sentinels | {variable: "", f"{variable}_FILE": str(path)}


@pytest.mark.parametrize("variable", IN_FILES)
def test_a_secret_in_a_file_is_read_again_each_time(place: Place, tmp_path: Path, variable: str) -> None:
    path = tmp_path / "secret"
    first, second = "the first of two", "the second of two"
    path.write_text(f"{first}\n")
    secret = getattr(place.load(with_file(variable, path)), variable.lower())
    assert secret.reveal() == first
    path.write_text(second)
    assert secret.reveal() == second
    path.unlink()
    with pytest.raises(SecretUnreadable) as raised:
        secret.reveal()
    assert str(raised.value) == f"{variable}_FILE is '{path}', which can't be used: No such file or directory"


@pytest.mark.parametrize(
    ("written", "secret"),
    [("hush\n", "hush"), ("hush\r\n", "hush"), ("hush\n\n", "hush\n"), (" hush ", " hush "), ("\ufeffhüsh", "hüsh")],
)
def test_one_newline_at_the_end_of_a_file_is_no_part_of_the_secret(
    place: Place, tmp_path: Path, written: str, secret: str
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(written.encode())
    loaded = place.load(with_file("DB_PASS", path)).db_pass
    assert loaded is not None
    assert loaded.reveal() == secret


def make_nothing(path: Path) -> None:
    """Leave no file there."""


@pytest.mark.parametrize("variable", IN_FILES)
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_nothing, "No such file or directory"),
        (Path.mkdir, "it is not a regular file"),
        (os.mkfifo, "it is not a regular file"),
        (lambda path: path.touch(0), "Permission denied"),
        (lambda path: path.write_text("\n"), "it is empty"),
        (lambda path: path.write_bytes(b"hush\xff"), "it is not UTF-8"),
        (lambda path: path.write_bytes(b"h\0u\0s\0h\0"), "it holds a NUL byte"),
    ],
    ids=["missing", "folder", "pipe", "unreadable", "empty", "not UTF-8", "NUL"],
)
def test_a_file_that_holds_no_secret(place: Place, variable: str, make: Callable[[Path], object], reason: str) -> None:
    place.env_file.parent.chmod(0o755)  # pytest's folders are closed to `nobody`
    path = Path("secret")
    make(path)
    with _no_superuser():
        (problem,) = place.problems(with_file(variable, path))
    assert problem == f"{variable}_FILE is '{path}', which can't be used: {reason}; name a file with one secret in it"


@pytest.mark.parametrize("variable", IN_FILES)
def test_a_secret_is_set_in_one_way_only(place: Place, tmp_path: Path, variable: str) -> None:
    path = tmp_path / "secret"
    path.write_text("hush-hush-hush-hush")
    problems = place.problems(with_file(variable, path) | {variable: path.read_text()})
    assert problems == (f"{variable} and {variable}_FILE are both set: remove one of them",)


def test_sqlite_ignores_the_file_of_a_servers_password(place: Place) -> None:
    assert place.load(SQLITE | {"DB_PASS_FILE": "/nowhere"}).db_pass is None


def test_a_secret_is_shown_by_nothing(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("hush-file")
    settings = place.load(with_file("DB_PASS", path) | {"REDIS_PASSWORD": "hush-text"})
    assert "hush" not in f"{settings!r} {settings} {settings.model_dump()} {masked(settings)} {vars(settings)}"
    with pytest.raises(TypeError):
        msgspec.json.encode(settings.db_pass)
    assert masked(settings)["DB_PASS"] == masked(settings)["REDIS_PASSWORD"] == "***"
    assert masked(settings)["DB_PASS_FILE"] == str(path)


@pytest.mark.parametrize("variable", ["DB_HOST", "REDIS_HOST"])
def test_a_url_in_a_hosts_place_keeps_its_password_to_itself(place: Place, variable: str) -> None:
    (problem,) = place.problems(POSTGRES | {variable: "x://me:hush@there"})
    assert problem.startswith(f"{variable} is wrong: must be a host name")


@pytest.mark.parametrize("variable", ["DB_NAME", "DB_USER", "DB_SCHEMA"])
def test_a_url_in_a_names_place_keeps_its_password_to_itself(place: Place, variable: str) -> None:
    (problem,) = place.problems(POSTGRES | {variable: "x://me:hush@there"})
    assert problem.startswith(f"{variable} is wrong: must be a")


def test_a_nul_in_the_env_file_is_refused(place: Place) -> None:
    place.env_file.write_text("DB_NAME=a\0b\n")
    (problem,) = place.problems({"DB_TYPE": "sqlite"})
    assert problem.startswith("DB_NAME is 'a\\x00b': ")


@pytest.mark.parametrize("kind", ["sqlite", "mysql", "mongo"])
def test_a_schema_is_for_postgres_alone(place: Place, kind: str) -> None:
    (problem,) = place.problems(SERVER | {"DB_TYPE": kind, "DB_SCHEMA": "watch"})
    assert problem == "DB_SCHEMA is 'watch': must be a schema name; only with DB_TYPE=postgres"


@pytest.mark.parametrize("kind", ["sqlite", "mysql", "postgres"])
@pytest.mark.parametrize(("variable", "allowed"), [("DB_AUTH_SOURCE", "a database name"), ("DB_REPLICA_SET", "a name")])
def test_what_is_for_mongodb_alone(place: Place, kind: str, variable: str, allowed: str) -> None:
    (problem,) = place.problems(SERVER | {"DB_TYPE": kind, variable: "x"})
    assert problem == f"{variable} is 'x': must be {allowed}; only with DB_TYPE=mongo"


def test_what_mongodb_has_of_its_own(place: Place) -> None:
    settings = place.load(SERVER | {"DB_TYPE": "mongo", "DB_AUTH_SOURCE": "users", "DB_REPLICA_SET": "rs0"})
    assert (settings.db_auth_source, settings.db_replica_set) == ("users", "rs0")


@pytest.mark.parametrize("kind", ["postgres", "mysql", "mongo"])
@pytest.mark.parametrize(
    ("variable", "without", "wanted"),
    [
        (
            "DB_TLS_CA",
            ["", "off", "prefer", "require"],
            "the path of a PEM file; only with DB_TLS=verify-ca or verify-full",
        ),
        (
            "DB_TLS_CERT",
            ["", "off", "prefer"],
            "the path of a PEM file; only with DB_TLS=require, verify-ca or verify-full",
        ),
        ("DB_TLS_KEY", ["", "off", "verify-full"], "the path of a PEM file; only with DB_TLS_CERT"),
    ],
)
def test_a_file_for_tls_that_would_have_no_effect(
    place: Place, kind: str, variable: str, without: list[str], wanted: str
) -> None:
    for tls in without:
        (problem,) = place.problems(SERVER | {"DB_TYPE": kind, variable: "/x.pem", "DB_TLS": tls})
        assert problem == f"{variable} is '/x.pem': must be {wanted}"


@pytest.mark.parametrize("tls", ["require", "verify-ca", "verify-full"])
def test_a_unix_socket_is_not_encrypted(place: Place, tls: str) -> None:
    (problem,) = place.problems(POSTGRES | {"DB_HOST": "/run/postgresql", "DB_TLS": tls})
    assert problem.startswith(f"DB_TLS is '{tls}': ")
    assert problem.endswith("; off or prefer for a Unix socket")
    assert place.load({"DB_TLS": "prefer"}).db_tls is DbTls.PREFER


def test_a_wrong_value_of_db_tls_is_the_only_problem(place: Place) -> None:
    files = {"DB_TLS_CA": "/ca.pem", "DB_TLS_CERT": "/cert.pem", "DB_TLS_KEY": "/key.pem"}
    (problem,) = place.problems(POSTGRES | files | {"DB_TLS": "on"})
    assert problem.startswith("DB_TLS is 'on': must be one of off, prefer, require, verify-ca, verify-full; ")


def test_settings_are_frozen(place: Place) -> None:
    settings = place.load(SQLITE)
    with pytest.raises(ValidationError):
        settings.redis_db = 1


def _documented() -> dict[str, tuple[str, str, str, str]]:
    """Read the table: name → required, default, allowed, meaning."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in DOCS.read_text().splitlines()]
    return {row[0].strip("`"): (row[1], row[2], row[3], row[4]) for row in rows if len(row) == 5 and row[0][:1] == "`"}


def test_the_docs_know_exactly_the_variables_there_are() -> None:
    assert list(_documented()) == [name.upper() for name in Settings.model_fields]


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_the_docs_say_what_the_settings_do(name: str) -> None:
    field = Settings.model_fields[name]
    required, default, allowed, meaning = _documented()[name.upper()]
    assert isinstance(field.json_schema_extra, dict)
    assert allowed == field.json_schema_extra["allowed"]
    assert meaning == field.description
    assert default == ("" if field.is_required() or field.default is None else f"`{field.default}`")
    unless_sqlite = name in {"db_host", "db_port", "db_user", "db_pass"}
    assert required == ("yes" if field.is_required() else "unless sqlite" if unless_sqlite else "")
