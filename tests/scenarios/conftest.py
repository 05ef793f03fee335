"""The databases that Peekaping ships migrations for: those that the recorded messages and the Go producer are of."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.databases import Database, postgres_copy, sqlite_copy
from support.postgres import Postgres


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def _either_server(request: pytest.FixtureRequest) -> Postgres | None:
    """Choose the kind; its server starts before the leak checks count processes."""
    server: Postgres | None = request.getfixturevalue("postgres_server") if request.param == "postgres" else None
    return server


@pytest.fixture
async def either_db(_either_server: Postgres | None, tmp_path: Path) -> AsyncIterator[Database]:
    """Run the test on each kind: Peekaping's schema and no monitors."""
    if _either_server is None:
        yield sqlite_copy(tmp_path, rows=False)
    else:
        async with postgres_copy(_either_server, rows=False) as database:
            yield database
