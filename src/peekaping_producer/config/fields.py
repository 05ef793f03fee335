"""How the fields of settings are described, and what several groups of them have in common."""

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from peekaping_producer.config.values import Whole

PORT: Final = "a whole number from 1 to 65535"
Port = Annotated[Whole, Field(ge=1, le=65535)]


class Switch(StrEnum):
    """Something that can be turned off."""

    ON = "on"
    OFF = "off"


SWITCHES: Final = {switch.value: switch for switch in Switch}


def setting(default: object = ..., *, meaning: str, allowed: str) -> Any:  # noqa: ANN401 - as pydantic.Field
    """Describe a setting: its default (`...`: required), and the texts of docs/configuration.md and of errors."""
    return Field(default, description=meaning, json_schema_extra={"allowed": allowed})


def file_setting(variable: str, read_again: str = "for each new connection") -> Any:  # noqa: ANN401 - as pydantic.Field
    """Describe the setting `<variable>_FILE`. A field that has one beside it is a secret."""
    return setting(
        None,
        meaning=f"A file that holds the value of `{variable}`; it is read again {read_again}.",
        allowed=f"the path of a file; not together with {variable}",
    )


class Base(BaseModel):
    """What all groups of settings have in common."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, validate_default=True)


def allowed_in(model: type[BaseModel], field: str) -> str:
    """Return what a setting allows, for an error."""
    extra = model.model_fields[field].json_schema_extra
    return str(extra["allowed"]) if isinstance(extra, dict) else ""
