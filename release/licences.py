"""The licences of everything that an installation with all extras brings along, read from its SBOM."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

ALLOWED = frozenset({"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0"})
"""Licences that ask our users only to keep their texts; MPL-2.0 covers only its own files."""
_FROM_ITS_TEXT = {"cronsim": "BSD-3-Clause", "jinja2": "BSD-3-Clause", "protobuf": "BSD-3-Clause"}
"""Packages whose metadata names no SPDX licence; their file LICENSE was read."""
_WORD = re.compile(r"[^\s()]+")


class Licensed(NamedTuple):
    """A package and its licence, an SPDX expression; "unknown" if its metadata has none."""

    name: str
    version: str
    licence: str

    @property
    def is_allowed(self) -> bool:
        """Whether every licence that the expression names is allowed, even where it leaves a choice."""
        return {*_WORD.findall(self.licence)} - {"AND", "OR"} <= ALLOWED


SHIPPED = (Licensed("uplot", "1.6.32", "MIT"),)
"""What is in the package itself, with its licence beside it: `web/static/`."""


def licences(sbom: Mapping[str, Any]) -> list[Licensed]:
    """Return the packages of an SBOM in CycloneDX's JSON, and what is in our own."""
    brought = [
        Licensed(component["name"], component["version"], _expression(component)) for component in sbom["components"]
    ]
    return [*brought, *SHIPPED]


def table(packages: Iterable[Licensed]) -> str:
    """Return one line for each package."""
    return "".join(f"{name} {version}: {licence}\n" for name, version, licence in packages)


def _expression(component: Mapping[str, Any]) -> str:
    if known := _FROM_ITS_TEXT.get(component["name"].lower()):
        return known
    declared = component.get("licenses", [])
    # Names are Python's own classifiers; they repeat what an SPDX id beside them says.
    found = [one.get("expression") or one["license"].get("id") for one in declared]
    return " AND ".join(filter(None, found)) or "unknown"
