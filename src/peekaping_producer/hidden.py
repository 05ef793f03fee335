"""Hides OpenTelemetry until it is wanted: redis-py imports it where it is installed, which takes a fifth of a start."""

import sys
from typing import Final

_NAME: Final = "opentelemetry"


def hide() -> None:
    """Have imports of it fail, as if it were not installed; call it before anything imports redis-py."""
    sys.modules.setdefault(_NAME, None)  # type: ignore[arg-type]  # documented: the import of such a module fails


def show() -> None:
    """Have imports of it work again, if it is installed."""
    if sys.modules.get(_NAME, ...) is None:
        del sys.modules[_NAME]
