"""Who is there to check monitors: what each command must know before it promises anything."""

from collections.abc import Iterable

from peekaping_producer.fleet.registry import SeenNode
from peekaping_producer.schedule.view import Place

NOT_RUNNING = "no producer is running: no monitor is checked"
LEADERLESS = "no node leads: new monitors are not scheduled, deleted ones not removed"


def is_running(nodes: Iterable[SeenNode], place: Place) -> bool:
    """Tell whether a producer runs: a node of ours that is alive, or a leader of either kind."""
    return place.leader is not None or any(not node.gone for node in nodes)
