"""Users with the rights that docs/databases.md grants, and without."""

import json
import re
from pathlib import Path

from support.databases import Database, MongoDatabase, MySqlDatabase, PostgresDatabase, mongo_client
from support.postgres import PASSWORD_USER

PASSWORD = "r1ght-p4ss"
DOCS = Path(__file__).parents[2] / "docs" / "databases.md"


def documented(language: str) -> str:
    """Return the docs' block of code that grants the rights."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert isinstance(block, str)
    return block


async def make_user(database: Database, *, rights: bool = True) -> str:
    """Create a user with the documented rights, or with none; return the name. The password is PASSWORD."""
    if isinstance(database, MongoDatabase):
        return await _mongo_user(database, rights=rights)
    if isinstance(database, MySqlDatabase):
        user = f"producer_{database.name[-12:]}"
        create, *grants = _statements("mysql", user, database)
        await database.execute(";".join([create, *(grants if rights else [f"GRANT USAGE ON *.* TO {user}@'%'"])]))
        return user
    # The only user that needs a password on this server, shared by all its databases.
    assert isinstance(database, PostgresDatabase)
    create, *grants = _statements("sql", PASSWORD_USER, database)
    await database.execute(
        f"DO $$ BEGIN {create}; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
        f"ALTER ROLE {PASSWORD_USER} PASSWORD '{PASSWORD}'"
    )
    if rights:
        await database.execute(";".join(grants))
    return PASSWORD_USER


async def set_password(database: Database, user: str, password: str) -> None:
    """Give a user another password."""
    if isinstance(database, MongoDatabase):
        async with mongo_client(database.server) as client:
            await client.admin.command("updateUser", user, pwd=password)
    elif isinstance(database, MySqlDatabase):
        async with database.connected() as cursor:
            await cursor.execute("ALTER USER %s@'%%' IDENTIFIED BY %s", [user, password])
    else:
        assert isinstance(database, PostgresDatabase)
        quoted = password.replace("'", "''")
        await database.execute(f"ALTER ROLE {user} PASSWORD '{quoted}'")


async def _mongo_user(database: MongoDatabase, *, rights: bool) -> str:
    text = re.search(r"createUser\((.*)\)", documented("js"), re.DOTALL)
    assert text is not None
    granted = json.loads(text[1].replace('"peekaping"', f'"{database.name}"'))
    user = f"producer_{database.name[-12:]}"
    roles = granted["roles"] if rights else []
    async with mongo_client(database.server) as client:
        await client.admin.command("createUser", user, pwd=PASSWORD, roles=roles)
    return user


def _statements(language: str, user: str, database: MySqlDatabase | PostgresDatabase) -> list[str]:
    text = documented(language).replace("change-me", PASSWORD).replace("producer", user)
    text = text.replace(" peekaping.", f" {database.name}.")
    return [statement.strip() for statement in text.split(";") if statement.strip()]
