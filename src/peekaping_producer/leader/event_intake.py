"""Reads the messages of a subscription; one that is invalid is counted, logged and left out (invariant 7)."""

from peekaping_producer.errors import CorruptRecord
from peekaping_producer.leader.event_message import Event, read_event
from peekaping_producer.node.node import Node
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.observe.paced import Paced


class EventIntake:
    """From messages to events."""

    def __init__(self, node: Node) -> None:
        """Take the node, which counts and logs."""
        self._node = node
        self._not_understood = Paced(node.log.warning, LogEvent.EVENTS_INVALID, node.timing.often_logged_every_s)

    def read(self, channel: str, data: bytes) -> Event | None:
        """Return what a message says; None if it is invalid, or about no monitor."""
        try:
            return read_event(channel, data)
        except CorruptRecord as error:
            self._not_understood.add({"count": 1}, channel=channel, reason=error.reason)
        except Exception as error:  # noqa: BLE001 - one message must not end the subscription
            self._node.faults.note(LogEvent.EVENT_FAILED, error, channel=channel)
        self._node.tally.add(Outcome.EVENT_DROPPED)
        return None
