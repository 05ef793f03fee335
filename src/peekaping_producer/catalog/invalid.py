"""Why a row is invalid, in words an operator understands: which field, what it is, what it must be.

What a text field holds is never shown: it may be a secret, as a proxy's password and a monitor's config are.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from types import UnionType as UnionOf

from msgspec import Struct
from msgspec.inspect import (
    BoolType,
    DateTimeType,
    Field,
    IntType,
    NoneType,
    StrType,
    StructType,
    Type,
    UnionType,
    type_info,
)

_SECONDS = frozenset({"interval", "timeout", "retry_interval"})
_LONGEST_SHOWN = 40
"""Characters of an invalid value that a reason repeats."""
_KINDS: tuple[tuple[type | UnionOf, str], ...] = (
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
    """Return the reason that the first invalid one of a row's values gives, None where all are valid."""
    for field, value in zip(_fields(model), values, strict=True):
        reason = _why(field.name, field.type, value)
        if reason:
            return reason
    return None


@cache
def _fields(model: type[Struct]) -> tuple[Field, ...]:
    info = type_info(model)
    assert isinstance(info, StructType)  # noqa: S101 - what type_info returns for a Struct
    return info.fields


def _why(name: str, type_: Type, value: object) -> str | None:
    if isinstance(type_, UnionType):  # one type, or NULL
        (of_values,) = (one for one in type_.types if not isinstance(one, NoneType))
        return None if value is None else _why(name, of_values, value)
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
    """Return a value of a field that holds no secret, shortened."""
    if value is not None and isinstance(value, bool | int | float | str):
        text = str(value).lower() if isinstance(value, bool) else ascii(value)
        return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
    return kind_of(value)


def kind_of(value: object) -> str:
    """Return what kind of value this is, without the value."""
    names = (name for types, name in _KINDS if isinstance(value, types))
    return next(names, f"of type {type(value).__name__}")
