"""Hides an installed package that a library would import needlessly, which would slow down every start."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def hide(name: str) -> None:
    """Have imports of a package fail, as if it were not installed, unless it has been imported already."""
    sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # documented: the import of such a module fails


def show(name: str) -> None:
    """Have imports of it work again, if it is installed."""
    if sys.modules.get(name, ...) is None:
        del sys.modules[name]


@contextmanager
def hidden(name: str) -> Iterator[None]:
    """Hide it for the duration of a block."""
    hide(name)
    try:
        yield
    finally:
        show(name)
