"""Missed checks: the slots that a monitor has skipped by the time it is settled, and why."""

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from peekaping_producer.node.node import Node
from peekaping_producer.observe.outcomes import PLACED, Outcome
from peekaping_producer.schedule.orders import Claim, Claimed, Enqueue, Order, Settlement

SURELY_IN_TIME_MS = 500.0
"""Half the shortest period: a check that is later by no more skips no slot."""
_LONGEST_MS = 30 * 86_400_000.0
"""What was due longer ago has a stray due time, such as one written by hand."""


_NOT_PLACED = frozenset({Outcome.RUNNING, Outcome.POSTPONED})
"""The outcomes of a check that was due and for which no task was put into the queue."""


class MissedChecks:
    """Finds the slots that were skipped from the due time of each monitor to its settle, and the reason of each.

    A check that is late by more than half its period skips slots (invariant 1). Its delay begins when it was due; one
    that was released or postponed meanwhile was due again then. The reason is what took up more than half of the
    delay, as far as this node knows:

    - redis: Redis was unavailable for this node;
    - database: the database was unavailable for this node, and the check was not served from the cache;
    - no_node: this node had not been started yet, and no other node ran.

    If none of them did, it is no_node for a monitor that was in an expired claim, since a node died, was frozen or was
    cut off; and overload for all others: the nodes were too slow, or the queue was so long that its task was postponed.

    A monitor whose earlier check still runs also misses the slot that it was due for: still_running.
    """

    def __init__(self, node: Node, nobody_from_s: float = -math.inf) -> None:
        """Take the node; from `nobody_from_s`, by the monotonic clock, to its start no other node ran."""
        self._node = node
        self._nobody_from_s = nobody_from_s

    def in_batch(
        self, claim: Claim, orders: Sequence[Order], settlement: Settlement, lateness_ms: Sequence[float]
    ) -> Counter[Outcome]:
        """Return how many checks a settled batch has missed, by reason; `lateness_ms` is that of its placed tasks."""
        outcomes = settlement.outcomes
        if (
            max(lateness_ms, default=0) <= SURELY_IN_TIME_MS
            and Outcome.RUNNING not in outcomes
            and Outcome.POSTPONED not in outcomes
        ):
            return Counter()
        missed: Counter[Outcome] = Counter()
        for claimed, order, late_ms, outcome in _due(claim, orders, settlement):
            if outcome is Outcome.RUNNING:
                missed[Outcome.MISSED_STILL_RUNNING] += 1
            if outcome is Outcome.POSTPONED:
                # Its due time becomes that of the next try, from which the rest of the delay counts.
                skipped = order.cadence.skipped(claimed.due_ms, late_ms + self._node.timing.postpone_ms)
            elif late_ms > order.cadence.period_ms / 2:
                skipped = order.cadence.skipped(claimed.due_ms, late_ms)
            else:
                continue
            if skipped:
                missed[self._reason(claim, claimed, order, late_ms)] += skipped
        return missed

    def _reason(self, claim: Claim, claimed: Claimed, order: Enqueue, late_ms: float) -> Outcome:
        node, late_s = self._node, late_ms / 1000
        due_s = time.monotonic() - late_s
        nobody_s = 0.0 if claim.go_seen else node.started_s - max(due_s, self._nobody_from_s)
        causes = {
            Outcome.MISSED_REDIS: node.redis_outage.seconds_since(due_s),
            Outcome.MISSED_DATABASE: 0.0 if order.from_cache else node.database_outage.seconds_since(due_s),
            Outcome.MISSED_NO_NODE: nobody_s,
        }
        for reason, seconds in causes.items():
            if seconds > late_s / 2:
                return reason
        return Outcome.MISSED_NO_NODE if claimed.due_ms < claim.drained_ms else Outcome.MISSED_OVERLOAD


def _due(
    claim: Claim, orders: Sequence[Order], settlement: Settlement
) -> Iterator[tuple[Claimed, Enqueue, float, Outcome]]:
    """Return each monitor that was due for a check, its order, how late it was in ms, and what became of it."""
    for claimed, order, outcome in zip(claim.claimed, orders, settlement.outcomes, strict=True):
        if isinstance(order, Enqueue) and (outcome in PLACED or outcome in _NOT_PLACED):
            late_ms = claim.lateness_ms(claimed, settlement.now_ms)
            if late_ms <= _LONGEST_MS:
                yield claimed, order, late_ms, outcome
