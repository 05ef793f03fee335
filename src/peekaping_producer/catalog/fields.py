"""The fields of a row's struct: their names are the columns that are read, their types what a column may hold."""

from functools import cache

from msgspec import Struct
from msgspec.inspect import Metadata, NoneType, StructType, Type, UnionType, type_info


class Field(Struct, frozen=True):
    """One field, and the column of the same name."""

    name: str
    type: Type
    """Of its values, apart from None."""
    optional: bool
    """It may be None."""
    null: object = None
    """What NULL reads as."""


@cache
def fields(model: type[Struct]) -> tuple[Field, ...]:
    """Return a struct's fields in their order."""
    info = type_info(model)
    assert isinstance(info, StructType)  # noqa: S101 - what type_info returns for a Struct
    return tuple(_field(field.name, field.type) for field in info.fields)


def _field(name: str, type_: Type) -> Field:
    if isinstance(type_, Metadata):
        return Field(name, type_.type, optional=False, null=(type_.extra or {}).get("null"))
    if isinstance(type_, UnionType):  # one type, or None
        (of_values,) = (one for one in type_.types if not isinstance(one, NoneType))
        return Field(name, of_values, optional=True)
    return Field(name, type_, optional=False)
