"""The JSON that commands print: one object a line, whose `schema` says which version of the format it has."""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

SCHEMA = 1
"""Raised when a field is removed, renamed or changes its meaning; not when one is added (docs/commands.md)."""


def json_line(value: Struct | Mapping[str, object]) -> str:
    """Return a value as one line of JSON, whose first field is `schema`."""
    fields = msgspec.structs.asdict(value) if isinstance(value, Struct) else dict(value)
    return msgspec.json.encode({"schema": SCHEMA, **fields}).decode()
