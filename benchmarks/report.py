"""What one run has measured, as a value and as a JSON file."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct

from benchmarks.figures import Case
from benchmarks.part import Size
from peekaping_producer import __version__


class Machine(Struct, frozen=True):
    """Where it was measured."""

    measured_at: str
    version: str
    python: str
    system: str
    processor: str
    cores: int
    load_before: float
    """Of the last minute; figures of a busy machine say little."""


class Measured(Struct, frozen=True, omit_defaults=True):
    """One part."""

    took_s: float
    cases: list[Case]
    failed: str = ""
    """Why the rest of this part is missing."""


class Report(Struct, frozen=True):
    """Everything of one run."""

    machine: Machine
    size: Size
    parts: dict[str, Measured]


def machine() -> Machine:
    """Describe this machine."""
    return Machine(
        datetime.now(UTC).isoformat(timespec="seconds"),
        __version__,
        platform.python_version(),
        f"{platform.system()} {platform.release()} {platform.machine()}",
        _processor(),
        psutil.cpu_count() or 1,
        round(os.getloadavg()[0], 2),
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - no path of ours
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def as_json(report: Report) -> str:
    """Return the report as the text of a file."""
    return msgspec.json.format(msgspec.json.encode(report).decode(), indent=2) + "\n"


def read_report(file: Path) -> Report:
    """Return the report of an earlier run. Raises ValueError with the reason if the file is not one."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Report)
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"{file}: not a report of this benchmark: {error}") from None
