"""Variables that are not the producer's: those of other tools change nothing, and misspelled ones are reported."""

from pathlib import Path

from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import RedisServer
from support.databases import MySqlDatabase, PostgresDatabase, SqliteDatabase
from support.fleet import addressed
from support.producer import started

HOSTILE_POSTGRES = {
    "PGHOST": "no.such.invalid",
    "PGPORT": "nonsense",
    "PGUSER": "nobody-known",
    "PGPASSWORD": "wrong",
    "PGDATABASE": "no_such_database",
    "PGPASSFILE": "/no/such/file",
    "PGSERVICE": "nonsense",
    "PGSERVICEFILE": "/no/such/file",
    "PGSSLMODE": "verify-full",
    "PGSSLNEGOTIATION": "direct",
    "PGSSLCERT": "/no/such/file",
    "PGSSLKEY": "/no/such/file",
    "PGSSLROOTCERT": "/no/such/file",
    "PGSSLCRL": "/no/such/file",
    "PGSSLMINPROTOCOLVERSION": "nonsense",
    "PGSSLMAXPROTOCOLVERSION": "nonsense",
    "PGTARGETSESSIONATTRS": "standby",
    "PGKRBSRVNAME": "nonsense",
    "PGGSSLIB": "nonsense",
    "PGOPTIONS": "-c search_path=nowhere",
    "PGTZ": "Asia/Kolkata",
}
HOSTILE_MYSQL = {
    "MYSQL_HOST": "no.such.invalid",
    "MYSQL_TCP_PORT": "1",
    "MYSQL_UNIX_PORT": "/no/such.sock",
    "MYSQL_PWD": "wrong",
    "MYSQL_HOME": "/no/such/folder",
    "MYSQL_TEST_LOGIN_FILE": "/no/such/file",
}
SWEPT = "sweep finished"
UNKNOWN = "unknown variable ignored"


async def test_postgres_own_variables_change_nothing(
    postgres_db: PostgresDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    variables = addressed(postgres_db, redis_server.port) | HOSTILE_POSTGRES
    async with started(tmp_path, **variables) as producer:
        await producer.until_logged(SWEPT)
        assert await producer.stop() == 0


async def test_mysqls_own_variables_change_nothing(
    mysql_db: MySqlDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    variables = addressed(mysql_db, redis_server.port) | HOSTILE_MYSQL
    async with started(tmp_path, **variables) as producer:
        await producer.until_logged(SWEPT)
        assert await producer.stop() == 0


async def test_a_misspelled_name_is_logged_once_with_the_nearest_one(
    sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("REDIS_PASSWRD=hush\n")
    variables = addressed(sqlite_db, redis_server.port) | {"PRODUCER_CONCURENCY": 3, "DB_HOTS": "db"}
    async with started(tmp_path, **variables) as producer:
        await producer.until_logged(SWEPT)

    logged = {line["variable"]: line["did_you_mean"] for line in producer.logged(UNKNOWN)}
    assert logged == {
        "REDIS_PASSWRD": "REDIS_PASSWORD",
        "PRODUCER_CONCURENCY": "PRODUCER_CONCURRENCY",
        "DB_HOTS": "DB_HOST",
    }
    assert len(producer.logged(UNKNOWN)) == len(logged)
    assert {line["level"] for line in producer.logged(UNKNOWN)} == {"warning"}
    assert "hush" not in str(producer.lines)
