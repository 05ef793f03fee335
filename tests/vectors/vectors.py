"""The recorded cases of the Go release, as files: `data/` beside this, or the folder that `PEEKAPING_VECTORS` names."""

import json
import os
from pathlib import Path
from typing import Any


def load(name: str) -> dict[str, Any]:
    """Return the parsed file `<name>.json`; `data/README.md` says what its fields mean."""
    folder = Path(os.environ.get("PEEKAPING_VECTORS") or Path(__file__).parent / "data")
    parsed: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return parsed
