"""Unix sockets, a named schema, PgBouncer, server time zones, and a refused login."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from peekaping_producer.config.secret import Secret
from peekaping_producer.config.settings import Settings
from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.errors import ConfigurationError, Unavailable
from peekaping_producer.model.monitor import MonitorId
from support.catalogues import all_pages, engine, in_order, opened
from support.database_users import PASSWORD, make_user, set_password
from support.databases import (
    CREATED_AT,
    MongoDatabase,
    MySqlDatabase,
    PostgresDatabase,
    ServerDatabase,
    mongo_client,
    mongo_database,
    monitor_row,
    mysql_database,
    new_id,
)
from support.fleet import addressed
from support.mariadb import MariaDB
from support.pgbouncer import Mode, PgBouncer, need_pgbouncer
from support.postgres import HOST, SUPERUSER, Postgres
from support.producer import run_to_the_end
from support.secantus import ReplicaSet


@pytest.fixture(scope="session", params=["transaction", "session"])
def pgbouncer_of_any_mode(request: pytest.FixtureRequest, postgres_server: Postgres) -> Iterator[PgBouncer]:
    need_pgbouncer()
    with PgBouncer(postgres_server, request.param) as server:
        yield server


@pytest.fixture
def replica_set() -> Iterator[ReplicaSet]:
    with ReplicaSet() as server:
        yield server


def through(pgbouncer: PgBouncer, database: PostgresDatabase) -> Settings:
    """Return the settings that docs/databases.md requires for this PgBouncer: none in session mode."""
    own = {"db_statement_cache": "off"} if pgbouncer.mode == "transaction" else {}
    return database.settings(db_port=pgbouncer.port, **own)


async def test_many_readers_through_pgbouncer(pgbouncer_of_any_mode: PgBouncer, postgres_db: PostgresDatabase) -> None:
    ids = [MonitorId(id_) for id_ in await postgres_db.ids()]
    settings = through(pgbouncer_of_any_mode, postgres_db)
    async with opened(postgres_db) as direct, opened(settings, connections=8) as catalog:
        expected = in_order(await direct.read(ids))
        # All at once, so that several find the pooler at the same time.
        first = await asyncio.gather(*(catalog.read(ids) for _ in range(8)))
        assert all(in_order(reading) == expected for reading in first)
        await catalog.check()
        for _ in range(5):
            readings = await asyncio.gather(*(catalog.read(ids) for _ in range(20)))
            assert all(in_order(reading) == expected for reading in readings)
        assert await all_pages(catalog, 7) == await all_pages(direct, 7)
        assert await catalog.changed(CREATED_AT, None, 1000) == await direct.changed(CREATED_AT, None, 1000)


@pytest.mark.parametrize("round_robin", [True, False])
async def test_with_the_statement_cache_transaction_mode_is_refused_with_the_setting_to_change(
    postgres_server: Postgres, postgres_db: PostgresDatabase, round_robin: bool
) -> None:
    need_pgbouncer()
    with PgBouncer(postgres_server, round_robin=round_robin) as pgbouncer:
        async with opened(postgres_db.settings(db_port=pgbouncer.port)) as catalog:
            with pytest.raises(ConfigurationError, match="DB_STATEMENT_CACHE=off"):
                await catalog.check()
            with pytest.raises(Unavailable, match="DB_STATEMENT_CACHE=off"):
                await catalog.read([MonitorId(new_id())])


async def test_through_pgbouncer_statements_are_bounded_and_can_t_write(
    pgbouncer_of_any_mode: PgBouncer, postgres_db: PostgresDatabase
) -> None:
    settings = through(pgbouncer_of_any_mode, postgres_db)
    async with opened(settings, timeout_s=0.5) as catalog:
        await catalog.check()
        for _ in range(2):
            async with engine(catalog).connect() as connection:
                with pytest.raises(Exception, match="statement timeout"):
                    await connection.exec_driver_sql("SELECT pg_sleep(5)")
                await connection.rollback()
                with pytest.raises(Exception, match="read-only"):
                    await connection.exec_driver_sql("DELETE FROM monitors")


async def test_a_read_of_a_whole_table_takes_one_core_of_postgres(postgres_db: PostgresDatabase) -> None:
    async with opened(postgres_db) as catalog, engine(catalog).connect() as connection:
        found = await connection.exec_driver_sql("SHOW max_parallel_workers_per_gather")
        assert found.scalar_one() == "0"


async def test_no_session_setting_reaches_other_clients_of_pgbouncer(
    pgbouncer_of_any_mode: PgBouncer, postgres_db: PostgresDatabase
) -> None:
    async with opened(through(pgbouncer_of_any_mode, postgres_db)) as catalog:
        await catalog.check()
        address = {"host": HOST, "port": pgbouncer_of_any_mode.port, "user": SUPERUSER, "database": postgres_db.name}
        other = await asyncpg.connect(**address, statement_cache_size=0)
        try:
            # Often enough to use every session.
            for _ in range(6):
                assert await other.fetchval("SHOW default_transaction_read_only") == "off"
                assert await other.fetchval("SHOW statement_timeout") == "0"
        finally:
            await other.close()


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_through_pgbouncer_an_outage_ends(
    postgres_server: Postgres, postgres_db: PostgresDatabase, mode: Mode
) -> None:
    need_pgbouncer()
    ids = [MonitorId(id_) for id_ in await postgres_db.ids()]
    with PgBouncer(postgres_server, mode) as pgbouncer:
        async with opened(through(pgbouncer, postgres_db)) as catalog:
            before = await catalog.read(ids)
            pgbouncer.kill()
            with pytest.raises(Unavailable):
                await catalog.read(ids)
            pgbouncer.restart()
            assert in_order(await catalog.read(ids)) == in_order(before)


async def test_postgres_by_its_unix_socket(postgres_db: PostgresDatabase) -> None:
    async with opened(postgres_db.settings(db_host=str(postgres_db.server.socket_folder))) as catalog:
        await catalog.check()
        assert (await catalog.active(None, 10)).monitors


async def test_mariadb_by_its_unix_socket(own_mysql_server: MariaDB) -> None:
    database = await mysql_database(own_mysql_server, rows=True)
    # The port is not used.
    async with opened(database.settings(db_host=own_mysql_server.unix_socket, db_port=1)) as catalog:
        await catalog.check()
        assert (await catalog.active(None, 10)).monitors


async def test_another_schema_by_its_name(postgres_db: PostgresDatabase) -> None:
    ids = [MonitorId(id_) for id_ in await postgres_db.ids()]
    await postgres_db.execute('ALTER SCHEMA public RENAME TO "Watch it"; CREATE SCHEMA public')

    async with opened(postgres_db.settings(db_schema="Watch it")) as catalog:
        await catalog.check()
        assert len((await catalog.read(ids)).found) > 50
        assert (await catalog.active(None, 10)).monitors
        assert (await catalog.active_of(ids)).monitors
        assert (await catalog.changed(CREATED_AT, None, 10)).ids
    async with opened(postgres_db) as catalog:
        with pytest.raises(Unavailable, match="table monitors"):
            await catalog.check()


async def test_a_missing_schema_is_waited_for(postgres_db: PostgresDatabase) -> None:
    async with opened(postgres_db.settings(db_schema="no_such")) as catalog:
        with pytest.raises(Unavailable, match="DB_SCHEMA 'no_such'"):
            await catalog.check()


async def test_the_zone_of_the_mysql_server_does_not_matter(empty_mysql_db: MySqlDatabase) -> None:
    row = monitor_row()
    await empty_mysql_db.insert("monitors", row)
    async with opened(empty_mysql_db) as catalog, engine(catalog).connect() as connection:
        (monitor,) = (await catalog.active(None, 10)).monitors
        changes = await catalog.changed(CREATED_AT, None, 10)
        zone = (await connection.exec_driver_sql("SELECT @@session.time_zone")).scalar_one()

    assert (monitor.created_at, monitor.updated_at, changes.newest) == (CREATED_AT, CREATED_AT, CREATED_AT)
    # So a TIMESTAMP instead of a DATETIME is read in UTC too.
    assert zone == "+00:00"


async def test_a_mongodb_user_in_another_database(mongo_db: MongoDatabase) -> None:
    user = f"producer_{mongo_db.name[-12:]}"
    async with mongo_client(mongo_db.server) as client:
        roles = [{"role": "read", "db": mongo_db.name}]
        await client["users"].command("createUser", user, pwd=PASSWORD, roles=roles)

    async with opened(mongo_db.settings(db_user=user, db_pass=PASSWORD, db_auth_source="users")) as catalog:
        await catalog.check()
        assert (await catalog.active(None, 10)).monitors
    async with opened(mongo_db.settings(db_user=user, db_pass=PASSWORD)) as catalog:
        with pytest.raises(ConfigurationError, match="DB_AUTH_SOURCE"):
            await catalog.check()


async def test_a_mongodb_replica_set(replica_set: ReplicaSet) -> None:
    database = await mongo_database(replica_set, rows=True)
    # Nothing answers at the second port, where the set's members are known from the first.
    hosts = f"{HOST}:{replica_set.port},{HOST}"
    async with opened(database.settings(db_host=hosts, db_port=1, db_replica_set=replica_set.replica_set)) as catalog:
        await catalog.check()
        assert (await catalog.active(None, 10)).monitors
    async with opened(database.settings(db_replica_set="other"), timeout_s=1) as catalog:
        with pytest.raises(Unavailable, match="DB_REPLICA_SET 'other'"):
            await catalog.check()


async def test_a_password_that_was_changed_is_read_again_for_the_next_connection(
    server_db: ServerDatabase, tmp_path: Path
) -> None:
    user, file = await make_user(server_db), tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    where = server_db.settings(db_user=user, db_pass=Secret.of_file("DB_PASS_FILE", file))
    ids = [MonitorId(id_) for id_ in await server_db.ids()]
    async with opened(where) as catalog:
        before = await catalog.read(ids)
        await set_password(server_db, user, "an0ther-p4ss")

        # Reads of whole tables have a connection of their own, which is opened now.
        with pytest.raises(Unavailable, match="DB_USER or DB_PASS is refused"):
            await catalog.active(None, 10)
        file.unlink()
        with pytest.raises(Unavailable, match="DB_PASS_FILE is "):
            await catalog.active(None, 10)
        file.write_text("an0ther-p4ss\n")

        assert (await catalog.active(None, 10)).monitors
        assert (await catalog.active_of(ids, urgent=True)).monitors
        assert in_order(await catalog.read(ids)) == in_order(before)


async def test_a_refused_login_ends_the_producer_in_one_line(
    server_db: ServerDatabase, redis_server: RedisServer, tmp_path: Path
) -> None:
    refused = {"DB_USER": await make_user(server_db), "DB_PASS": "wr0ng-p4ss"}

    ended = run_to_the_end(tmp_path, "run", **addressed(server_db, redis_server.port) | refused)

    assert ended.code == 2
    (problem,) = ended.problems
    assert "DB_USER or DB_PASS" in problem
    assert "wr0ng" not in ended.out + ended.err
