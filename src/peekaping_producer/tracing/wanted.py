"""Whether traces are wanted, by OpenTelemetry's own variables. Imports nothing of OpenTelemetry."""

from collections.abc import Mapping
from typing import Final

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Either names the collector; the first wins."""
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"


def endpoint(variables: Mapping[str, str]) -> str | None:
    """Return the address of the collector; None if no traces are wanted."""
    if variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if variables.get("OTEL_TRACES_EXPORTER", "").strip().lower() not in {"", "otlp"}:
        return None
    return _first(variables, ENDPOINTS)


def unknown_protocol(variables: Mapping[str, str]) -> str | None:
    """Return the protocol that the variables demand, if it is not the one that the producer knows."""
    protocol = _first(variables, _PROTOCOLS)
    return None if protocol in {None, _PROTOCOL} else protocol


def _first(variables: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((variables[name].strip() for name in names if variables.get(name, "").strip()), None)
