"""Flame graphs of the producer during a herd, by the sampling profiler py-spy."""

import shutil
import sys
from pathlib import Path

from benchmarks.database import Database
from benchmarks.herd import measure_herd

SAMPLES_PER_S = 500
HOW_TO_INSTALL = "py-spy is not installed, so there is no profile: install it with `pip install py-spy`"


def record_flame(database: Database, folder: Path) -> Path | None:
    """Run the herd once more under the profiler; return the graph's file, or None if there is no profiler."""
    profiler = shutil.which("py-spy", path=Path(sys.executable).parent) or shutil.which("py-spy")
    if profiler is None:
        return None
    graph = folder / f"flame-{database.kind}.svg"
    options = ("record", "--rate", str(SAMPLES_PER_S), "--format", "flamegraph", "--output", str(graph), "--")
    measure_herd(database, (profiler, *options))
    return graph
