"""Flame graphs of the producer during a herd, by the sampling profiler py-spy."""

import shutil
import sys
from pathlib import Path

SAMPLES_PER_S = 500


def find_profiler() -> str | None:
    """Return the profiler's path, if it is installed."""
    return shutil.which("py-spy", path=Path(sys.executable).parent) or shutil.which("py-spy")


def profiled(kind: str, folder: Path) -> tuple[str, ...]:
    """Return what starts a producer under the profiler; the graph of this kind of database goes into the folder."""
    program, graph = find_profiler() or "py-spy", folder / f"flame-{kind}.svg"
    return program, "record", "--rate", str(SAMPLES_PER_S), "--format", "flamegraph", "--output", str(graph), "--"
