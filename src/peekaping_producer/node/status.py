"""What a node reports about itself to other nodes and to people."""

from collections.abc import Mapping
from itertools import islice

from msgspec import Struct

from peekaping_producer.node.stop import Bell

_MOST_NOTED = 1_000


class NodeStatus:
    """The loops of a node set it; the heartbeat writes it to Redis."""

    def __init__(self, changed: Bell) -> None:
        """Begin as a follower that has done nothing."""
        self.changed = changed
        """Rung when there is something that other nodes should know soon."""
        self.leading = False
        self.swept: Struct | None = None
        """The result of this node's last sweep."""
        self.invalid_ids: set[str] | None = None
        """Active monitors with an invalid id, found by this term's sweeps; None until the first one has finished."""
        self._invalid: dict[str, str] = {}

    def note_invalid(self, reasons: Mapping[str, str]) -> None:
        """Note monitors that were skipped as invalid: id → reason."""
        room = _MOST_NOTED - len(self._invalid)
        self._invalid.update(islice(reasons.items(), max(0, room)))

    def take_invalid(self) -> dict[str, str]:
        """Return the monitors that were skipped as invalid since the last call."""
        taken, self._invalid = self._invalid, {}
        return taken

    def lead(self, *, leading: bool) -> None:
        """Note whether this node leads."""
        self.leading = leading
        self.changed.ring()
