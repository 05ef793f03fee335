"""Processes that help to measure: their work must not take time from the event loop of the measurement."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peekaping_producer.demo.redis_server import killed_with_parent

_STOP_WITHIN_S = 10.0


@contextmanager
def helping(module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module for the duration of the block. It writes a line when it is ready, and ends when its input does.

    Raises RuntimeError if it fails.
    """
    process = subprocess.Popen(
        killed_with_parent((sys.executable, "-m", module, *arguments)),
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if not process.stdout.readline():
            raise RuntimeError(f"{module} ended at its start")
        yield process
    finally:
        process.stdin.close()
        code = process.wait(_STOP_WITHIN_S)
        process.stdout.close()
    if code != 0:
        raise RuntimeError(f"{module} failed with code {code}")
