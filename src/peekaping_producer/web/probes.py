"""The probes: whether a node is alive, and whether it is ready."""

import time
from collections.abc import Iterable

from msgspec import Struct

from peekaping_producer.node.node import Node
from peekaping_producer.node.outage import Outage
from peekaping_producer.web.loop_lag import LoopLag


class Verdict(Struct, frozen=True):
    """The answer of a probe."""

    ok: bool
    reasons: list[str]
    """Why not, one line each; empty if ok."""


class Probes:
    """Judges the node, without a request to Redis or the database."""

    def __init__(self, node: Node, lag: LoopLag) -> None:
        """Begin as if the claim loop had just turned."""
        self._node = node
        self._lag = lag
        self._turned_at_s = time.monotonic()
        node.liveness.on_turn(self._note_turn)

    def alive(self) -> Verdict:
        """Return whether the event loop and the claim loop have turned recently; no outage changes that."""
        turns = {"event loop": self._lag.turned_at_s, "claim loop": self._turned_at_s}
        now_s, within_s = time.monotonic(), self._node.timing.alive_within_s
        return _verdict(
            f"the {loop} last ran {now_s - at_s:.0f} s ago" for loop, at_s in turns.items() if now_s - at_s > within_s
        )

    def ready(self) -> Verdict:
        """Return whether the node does its work: Redis is available, and the database has answered once."""
        node = self._node
        return _verdict(
            reason
            for reason in (
                _problem("Redis", node.redis_outage, now=True),
                _problem("the database", node.database_outage, now=False),
                "the node is stopping" if node.stop else None,
            )
            if reason
        )

    def _note_turn(self) -> None:
        self._turned_at_s = time.monotonic()


def _problem(name: str, outage: Outage, *, now: bool) -> str | None:
    """Return why a system is not ready: it must have answered once, and with `now` also be available now."""
    because = f": {outage.reason}" if outage.reason else ""
    if not outage.has_answered:
        return f"{name} has not answered yet{because}"
    return f"{name} is unavailable{because}" if now and outage.ongoing else None


def _verdict(reasons: Iterable[str]) -> Verdict:
    found = list(reasons)
    return Verdict(not found, found)
