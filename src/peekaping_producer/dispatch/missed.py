"""Missed checks: the slots that a monitor has skipped by the time it is settled, and why."""

import math
import time
from collections import Counter
from collections.abc import Sequence

from peekaping_producer.model.cadence import Cadence
from peekaping_producer.node.node import Node
from peekaping_producer.observe.outcomes import PLACED, Outcome
from peekaping_producer.schedule.orders import Claim, Claimed, Enqueue, Order, Settlement

_SURELY_IN_TIME_MS = 500.0
"""Half the shortest period: a check that is later by no more skips no slot."""
_LONGEST_MS = 30 * 86_400_000.0
"""What was due longer ago has a stray due time, such as one written by hand."""
_RUNNING, _POSTPONED, _REFRESHED = Outcome.RUNNING, Outcome.POSTPONED, Outcome.REFRESHED
_EVEN_IN_TIME = frozenset({_RUNNING, _POSTPONED, _REFRESHED})
"""The outcomes of checks that may be missed although they come in time."""


class MissedChecks:
    """Finds the slots that were skipped from the due time of each monitor to its settle, and the reason of each.

    A check that is late by more than half its period skips slots (invariant 1). Its delay begins when it was due; one
    that was released or postponed meanwhile was due again then. The reason is what took up more than half of the
    delay, as far as this node knows:

    - paused: checks were paused;
    - redis: Redis was unavailable for this node;
    - database: the database was unavailable for this node, and the check was not served from the cache;
    - no_node: this node had not been started yet, and no other node ran.

    Otherwise, if the monitor may have been in a claim that expired, the reason is redis if Redis was unavailable
    shortly before or since, as a claim whose reply is lost expires, and no_node if not: the node that had claimed it
    died, was frozen or was cut off. In all other cases it is overload: the nodes were too slow, or the queue was so
    long that the task was postponed.

    A monitor also misses the slot that it was due for if its earlier check still runs (still_running) or has not even
    been taken by a worker (overload).
    """

    def __init__(self, node: Node, no_node_since_s: float = -math.inf) -> None:
        """Take the node. No node ran from `no_node_since_s`, by the monotonic clock, until this one started."""
        self._node = node
        self._no_node_since_s = no_node_since_s

    def in_batch(
        self, claim: Claim, orders: Sequence[Order], settlement: Settlement, lateness_ms: Sequence[float]
    ) -> Counter[Outcome]:
        """Return how many checks a settled batch has missed, by reason; `lateness_ms` is that of each monitor."""
        outcomes = settlement.outcomes
        missed: Counter[Outcome] = Counter()
        if max(lateness_ms) <= _SURELY_IN_TIME_MS and _EVEN_IN_TIME.isdisjoint(outcomes):
            return missed
        reasons: dict[tuple[object, ...], Outcome] = {}
        for claimed, order, outcome, late_ms in zip(claim.claimed, orders, outcomes, lateness_ms, strict=True):
            if not isinstance(order, Enqueue) or late_ms > _LONGEST_MS:
                continue
            if outcome is _RUNNING:
                missed[Outcome.MISSED_STILL_RUNNING] += 1
            elif outcome is _REFRESHED and order.cadence.has_slot_at(claimed.due_ms):
                missed[Outcome.MISSED_OVERLOAD] += 1
            skipped = self._skipped(claimed, order.cadence, outcome, late_ms)
            if skipped:
                expired = claimed.due_ms < claim.drained_ms
                # To the second, so that it is found once for many.
                alike = (late_ms // 1000, order.from_cache, expired)
                if alike not in reasons:
                    reasons[alike] = self._reason(
                        late_ms / 1000, from_cache=order.from_cache, expired=expired, beside_go=claim.go_seen
                    )
                missed[reasons[alike]] += skipped
        return missed

    def _skipped(self, claimed: Claimed, grid: Cadence, outcome: Outcome, late_ms: float) -> int:
        if outcome is _POSTPONED:
            # Its due time becomes that of the next try, from which the rest of the delay counts.
            return grid.skipped(claimed.due_ms, late_ms + self._node.timing.postpone_ms)
        if late_ms > grid.period_ms / 2 and (outcome is _RUNNING or outcome in PLACED):
            return grid.skipped(claimed.due_ms, late_ms)
        return 0

    def _reason(self, late_s: float, *, from_cache: bool, expired: bool, beside_go: bool) -> Outcome:
        node, due_s = self._node, time.monotonic() - late_s
        causes = {
            Outcome.MISSED_PAUSED: node.pause.seconds_since(due_s),
            Outcome.MISSED_REDIS: node.redis_outage.seconds_since(due_s),
            Outcome.MISSED_DATABASE: 0.0 if from_cache else node.database_outage.seconds_since(due_s),
            Outcome.MISSED_NO_NODE: 0.0 if beside_go else node.started_s - max(due_s, self._no_node_since_s),
        }
        for reason, seconds in causes.items():
            if seconds > late_s / 2:
                return reason
        if not expired:
            return Outcome.MISSED_OVERLOAD
        reply_lost = node.redis_outage.seconds_since(due_s - node.timing.lease_ms / 1000) > 0
        return Outcome.MISSED_REDIS if reply_lost else Outcome.MISSED_NO_NODE
