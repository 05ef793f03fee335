"""The rights of a Redis user, as docs/configuration.md gives them."""

import re
from pathlib import Path

_DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"
USER = "peekaping-producer"


def documented_rights(password: str) -> list[str]:
    """Return the rules of ACL SETUSER, with this password."""
    (command,) = re.findall(rf"^ACL SETUSER {USER} (.+?)^```", _DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [f">{password}" if rule == ">PASSWORD" else rule for rule in command.split()]
