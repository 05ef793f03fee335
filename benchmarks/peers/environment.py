"""Where the other schedulers come from: PyPI, into an environment of their own, and Go's module proxy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.database import TESTS  # makes `support` importable
from support.asynq_peer import build

ROOT = TESTS.parent
ENVIRONMENT = ROOT / "build" / "bench-peers"
SOURCE = Path(__file__).parent / "asynqscheduler"
_INSTALLED_WITHIN_S = 600


class NotInstalledError(Exception):
    """A scheduler is not available on this machine; the message says why."""


def python_peers() -> Path:
    """Install the group `bench`, unless it is there; return the folder of its programs."""
    uv = os.environ.get("UV") or shutil.which("uv") or shutil.which("uv", path=Path(sys.executable).parent)
    if not uv:
        raise NotInstalledError("uv is not installed")
    command = [uv, "sync", "--quiet", "--locked", "--only-group", "bench", "--python", sys.executable]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"UV_PROJECT_ENVIRONMENT": str(ENVIRONMENT)},
            check=False,
            capture_output=True,
            text=True,
            timeout=_INSTALLED_WITHIN_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(f"uv cannot install them: {error}") from error
    if done.returncode != 0:
        raise NotInstalledError(f"uv cannot install them: {done.stderr.strip()}")
    return ENVIRONMENT / "bin"


def asynq_scheduler() -> Path:
    """Build the Go program, unless it is there; return its folder."""
    folder = ROOT / "build" / "bench-asynq"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        program = build(folder, SOURCE)
    except (pytest.skip.Exception, pytest.fail.Exception) as error:
        raise NotInstalledError(str(error)) from error
    named = folder / SOURCE.name
    named.unlink(missing_ok=True)
    named.symlink_to(program.name)
    return folder
