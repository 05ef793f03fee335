"""What the tests of deploy/ share."""

import os
import shutil
from pathlib import Path

import pytest

from support.container import built_root


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the image as a root file system."""
    missing = [name for name in ("mmdebstrap", "systemd-nspawn", "unshare", "nsenter") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.fail(f"`make image` needs root and {', '.join(missing) or 'mmdebstrap'}")
    folder = tmp_path_factory.mktemp("image")
    folder.chmod(0o755)
    return built_root(folder)
