"""`make chaos`: a fleet, faults chosen by a seed, and a judge that reads the worker's ledger."""

import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent

# The servers, rows and events of the tests.
sys.path.append(str(ROOT / "tests"))
