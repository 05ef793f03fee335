"""TLS to the database: what each value of DB_TLS accepts, and what an operator reads if it is refused."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from peekaping_producer.config.settings import Settings
from peekaping_producer.errors import ConfigurationError, Unavailable
from support.catalogues import opened
from support.certificates import Authority, database_authority
from support.database_fixtures import need_mariadb
from support.database_users import PASSWORD, make_user
from support.databases import ServerDatabase, mongo_copy, mysql_copy, postgres_copy
from support.mariadb import MariaDB
from support.postgres import Postgres
from support.secantus import Secantus
from support.tls_front import tls_before
from support.tls_servers import CERTIFICATE_USER, TlsPostgres, need_debian_postgres

MODES = ["prefer", "require", "verify-ca", "verify-full"]
Server = Postgres | MariaDB | Secantus


class Place:
    """A database whose server requires TLS, and what leads to a user who needs a client certificate as well."""

    def __init__(self, database: ServerDatabase) -> None:
        self.database = database
        self.login: dict[str, Any] = {}
        self.certificate_login: dict[str, Any] = {"db_user": CERTIFICATE_USER, "db_pass": PASSWORD}

    def settings(self, tls: str | None, **others: Any) -> Settings:
        """Return the settings for a value of DB_TLS, with the right authority where one is checked."""
        ca = str(database_authority().path) if tls in {"verify-ca", "verify-full"} else None
        return self.database.settings(**self.login | {"db_tls": tls, "db_tls_ca": ca} | others)


@pytest.fixture(scope="session", params=["postgres", "mysql", "mongo"])
def tls_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "postgres":
        need_debian_postgres()
        with TlsPostgres() as server:
            yield server
        return
    shared = request.getfixturevalue(f"{request.param}_server")
    if not isinstance(shared, MariaDB | Secantus):
        pytest.skip("that server has not the certificates of the tests")
    yield shared


@pytest.fixture
async def place(tls_server: Server) -> AsyncIterator[Place]:
    async with copied(tls_server) as database:
        place = Place(database)
        with ExitStack() as fronts:
            if isinstance(tls_server, Postgres):
                await prepare_postgres(database)
            elif isinstance(tls_server, MariaDB):
                await prepare_mysql(place)
            else:
                place.login = {"db_port": fronts.enter_context(tls_before(tls_server.port))}
                picky = tls_before(tls_server.port, client_certificates=True)
                place.certificate_login = {"db_port": fronts.enter_context(picky)}
            yield place


def copied(server: Server) -> AbstractAsyncContextManager[ServerDatabase]:
    """Make a database with the fixture's rows for the duration of a block."""
    if isinstance(server, Postgres):
        return postgres_copy(server, rows=True)
    return mysql_copy(server, rows=True) if isinstance(server, MariaDB) else mongo_copy(server, rows=True)


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Make an authority that neither side trusts."""
    return Authority(tmp_path)


async def prepare_postgres(database: ServerDatabase) -> None:
    await database.execute(
        f"DO $$ BEGIN CREATE ROLE {CERTIFICATE_USER} LOGIN SUPERUSER; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )


async def prepare_mysql(place: Place) -> None:
    user = await make_user(place.database)
    await place.database.execute(
        f"ALTER USER {user}@'%' REQUIRE SSL;"
        f"CREATE USER IF NOT EXISTS {CERTIFICATE_USER}@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE X509;"
        f"GRANT SELECT ON {place.database.name}.* TO {CERTIFICATE_USER}@'%'"
    )
    place.login = {"db_user": user, "db_pass": PASSWORD}


async def reaches(settings: Settings, *, tls: bool = True) -> None:
    """Fail unless the check passes, monitors can be read, and the catalog says whether it uses TLS."""
    async with opened(settings) as catalog:
        await catalog.check()
        assert (await catalog.active(None, 3)).monitors
        assert (await catalog.facts()).tls is tls


async def refusal(settings: Settings) -> str:
    """Return what the check reports to the operator, in one line."""
    # MongoDB's driver tries again for half of the time.
    async with opened(settings, timeout_s=2) as catalog:
        with pytest.raises(ConfigurationError) as raised:
            await catalog.check()
    (problem,) = raised.value.problems
    assert "\n" not in problem
    assert PASSWORD not in problem
    return problem


async def test_every_mode_but_off_reaches_a_server_that_requires_tls(place: Place) -> None:
    for mode in MODES:
        await reaches(place.settings(mode))
    assert "DB_TLS" in await refusal(place.settings("off"))
    unset = place.settings(None)
    if place.database.kind == "postgres":
        await reaches(unset)
    else:
        assert "DB_TLS" in await refusal(unset)


@pytest.mark.long
async def test_a_certificate_that_does_not_check_names_the_variable_to_fix(place: Place, stranger: Authority) -> None:
    other = str(stranger.path)

    assert "set DB_TLS_CA" in await refusal(place.settings("verify-ca", db_tls_ca=other))
    assert "set DB_TLS_CA" in await refusal(place.settings("verify-full", db_tls_ca=None))
    # The certificate is for the address alone.
    assert "DB_HOST" in (problem := await refusal(place.settings("verify-full", db_host="localhost")))
    assert "DB_TLS=verify-ca" in problem
    await reaches(place.settings("verify-ca", db_host="localhost"))
    async with opened(place.settings("verify-ca", db_tls_ca=other)) as catalog:
        # Later it is an outage. MongoDB's driver says only what is wrong.
        fix = "certificate verify failed" if place.database.kind == "mongo" else "set DB_TLS_CA"
        with pytest.raises(Unavailable, match=fix):
            await catalog.active(None, 3)


async def test_a_client_certificate_where_one_is_needed(place: Place, tmp_path: Path) -> None:
    cert, key = database_authority().issue("client.example.org", user=CERTIFICATE_USER)
    both = tmp_path / "both.pem"
    both.write_text(cert.read_text() + key.read_text())

    for mode in ("require", "verify-full"):
        await reaches(place.settings(mode, **place.certificate_login, db_tls_cert=str(cert), db_tls_key=str(key)))
    await reaches(place.settings("verify-full", **place.certificate_login, db_tls_cert=str(both)))
    assert "DB_TLS_CERT" in await refusal(place.settings("verify-full", **place.certificate_login))


async def test_a_client_certificate_by_an_unknown_authority(place: Place, stranger: Authority) -> None:
    cert, key = stranger.issue("client.example.org", user=CERTIFICATE_USER)
    settings = place.settings("verify-full", **place.certificate_login, db_tls_cert=str(cert), db_tls_key=str(key))

    if place.database.kind == "mongo":
        assert "DB_TLS_CERT" in await refusal(settings)
        return
    # The server closes the connection, and what it says about the certificate may be lost with it.
    async with opened(settings) as catalog:
        with pytest.raises((ConfigurationError, Unavailable), match="DB_TLS_CERT"):
            await catalog.check()


@pytest.fixture(scope="session", params=["postgres", "mysql", "mongo"])
def plain_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "mysql":
        need_mariadb()
        with MariaDB(tls=False) as server:
            yield server
        return
    yield request.getfixturevalue(f"{request.param}_server")


async def test_a_server_without_tls_is_for_those_who_do_not_demand_it(plain_server: Server) -> None:
    async with copied(plain_server) as database:
        await reaches(database.settings(db_tls="prefer"), tls=False)
        assert "offers no TLS" in await refusal(database.settings(db_tls="require"))
        verifying = database.settings(db_tls="verify-full", db_tls_ca=str(database_authority().path))
        assert "set DB_TLS=off" in await refusal(verifying)
