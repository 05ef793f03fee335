"""Whether a producer runs: what every command checks before it promises anything."""

from collections.abc import Iterable

from peekaping_producer.fleet.registry import SeenNode
from peekaping_producer.schedule.view import Place

NOT_RUNNING = "no producer is running: no monitor is checked"
LEADERLESS = "no node leads: new monitors are not scheduled, deleted ones not removed"


def is_running(nodes: Iterable[SeenNode], place: Place) -> bool:
    """Return whether a producer runs: one of our nodes is alive, or a node of either kind leads."""
    return place.leader is not None or any(not node.gone for node in nodes)
