"""How soon nodes put checks into the queue again after Redis has failed over, by what they log."""

from datetime import datetime
from functools import partial

from support.fleet import Fleet
from support.producer import Producer

WITHIN_MS = 5_000
"""What is promised: within it every node enqueues checks again."""
SAID_WITHIN_MS = 1_000
"""A line adds up what happened in the second before it."""


def placed_at_ms(node: Producer) -> list[float]:
    """Return when a node said that it put checks into the queue, within the second before."""
    lines = [line for line in node.logged("batches settled") if line["placed"]]
    return [datetime.fromisoformat(line["time"]).timestamp() * 1000 for line in lines]


def enqueued_since(node: Producer, since_ms: float) -> bool:
    """Return whether a node has put checks into the queue since an instant."""
    return any(at_ms > since_ms + SAID_WITHIN_MS for at_ms in placed_at_ms(node))


async def until_each_enqueues(nodes: Fleet, since_ms: float) -> None:
    """Wait until each node has put a check into the queue; assert that it did within the promised time.

    The time for which a busy machine let nobody run does not count.
    """
    for node in nodes.nodes:
        await node.until(partial(enqueued_since, node, since_ms), "it enqueues again")
        first_ms = min(at_ms for at_ms in placed_at_ms(node) if at_ms > since_ms + SAID_WITHIN_MS)
        took_ms = first_ms - since_ms - nodes.ledger.lost_ms(since_ms)
        assert took_ms <= WITHIN_MS, (node.pid, took_ms, first_ms - since_ms, node.lines)
