"""The demo's own temporary folder: private, gone at the end, and swept by the next demo if this one is killed."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "peekaping-demo-"
_LOCK = "lock"


@contextmanager
def demo_folder() -> Iterator[Path]:
    """Make the folder (mode 0700), first sweeping those whose demo has gone. Temporary files made inside lie in it."""
    _sweep(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    before = tempfile.tempdir
    try:
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # The embedded Redis makes its folder by `tempfile` too: so it is swept along with ours.
            tempfile.tempdir = str(folder)
            yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder)


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            with (folder / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # it lives, is only just being made, or is somebody else's
