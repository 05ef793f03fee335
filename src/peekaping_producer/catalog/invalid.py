"""Why a row is invalid, in words that an operator understands: which field, what it is, what it must be.

The value of a text column is never shown: it may be a secret, such as a proxy's password or a monitor's config.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import UnionType

from msgspec import Struct
from msgspec.inspect import BoolType, DateTimeType, IntType, StrType

from peekaping_producer.catalog.fields import Field, fields

_SECONDS = frozenset({"interval", "timeout", "retry_interval"})
_LONGEST_SHOWN = 40
"""Characters of an invalid value that a reason shows."""
_KINDS: tuple[tuple[type | UnionType, str], ...] = (
    (type(None), "not set"),
    (bool, "true or false"),
    (int | float, "a number"),
    (str, "text"),
    (bytes, "binary data"),
    (datetime, "a date and time"),
    (Mapping, "an object"),
    (list | tuple, "a list"),
)


def why_invalid(model: type[Struct], values: Sequence[object]) -> str | None:
    """Return why the first invalid one of a row's values is invalid; None where all are valid."""
    for field, value in zip(fields(model), values, strict=True):
        reason = None if value is None and field.optional else _why(field, value)
        if reason:
            return reason
    return None


def _why(field: Field, value: object) -> str | None:
    name, type_ = field.name, field.type
    if isinstance(type_, IntType):
        return _why_no_number(name, type_, value)
    if isinstance(type_, BoolType):
        return None if isinstance(value, bool) else f"{name} is {shown(value)}: must be true or false"
    if isinstance(type_, StrType):
        return _why_no_text(name, value)
    if isinstance(type_, DateTimeType) and not isinstance(value, datetime):
        return f"{name} is {kind_of(value)}: must be a date and time"
    return None


def _why_no_number(name: str, type_: IntType, value: object) -> str | None:
    unit = " s" if name in _SECONDS else ""
    if isinstance(value, bool) or not isinstance(value, int):
        return f"{name} is {shown(value)}: must be a whole number{' of seconds' if unit else ''}"
    least = type_.ge if type_.gt is None else type_.gt + 1
    if least is not None and value < least:
        return f"{name} is {value}{unit}: must be at least {least}{unit}"
    if type_.le is not None and value > type_.le:
        return f"{name} is {value}{unit}: must be at most {type_.le}{unit}"
    return None


def _why_no_text(name: str, value: object) -> str | None:
    if not isinstance(value, str):
        return f"{name} is {kind_of(value)}: must be text"
    try:
        value.encode()
    except UnicodeEncodeError:
        return f"{name} is not valid UTF-8"
    return None


def shown(value: object) -> str:
    """Return a value that is not a secret, shortened."""
    if value is not None and isinstance(value, bool | int | float | str):
        text = str(value).lower() if isinstance(value, bool) else ascii(value)
        return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
    return kind_of(value)


def kind_of(value: object) -> str:
    """Return the kind of a value, without the value."""
    names = (name for types, name in _KINDS if isinstance(value, types))
    return next(names, f"of type {type(value).__name__}")
