"""All parts, in the order in which they run."""

from typing import Final

from benchmarks import (
    ceiling,
    clients,
    events,
    flush,
    herd,
    idle,
    many,
    outage,
    reading,
    slow_database,
    start,
    steady,
    sync,
)
from benchmarks.part import Part
from benchmarks.peers import measuring

PARTS: Final[dict[str, Part]] = {
    module.PART.name: module.PART
    for module in (
        ceiling,
        herd,
        measuring,
        steady,
        sync,
        flush,
        events,
        slow_database,
        outage,
        reading,
        clients,
        idle,
        start,
        many,
    )
}
