"""Programs that some tests need; CI has them all."""

import os
import shutil

import pytest


def needed(name: str) -> str:
    """Return the path of an installed program; skip the test where it is not installed, and fail in CI."""
    found = shutil.which(name)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{name} is not installed: .ci/run installs it")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found
