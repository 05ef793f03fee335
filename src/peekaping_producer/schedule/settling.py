"""One settle over all its tries: the arguments of the script, and what became of each order."""

from collections.abc import Sequence
from typing import cast

from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.redisdb.client import text_of
from peekaping_producer.redisdb.replies import REFUSALS, code_of, reason_with_advice
from peekaping_producer.schedule.orders import Enqueue, Order, Release, Settlement

_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


class Settling:
    """What became of the orders of one settle so far."""

    def __init__(self, orders: Sequence[Order]) -> None:
        """Begin with every order unsettled."""
        self.retried = False
        self.reason = ""
        """Why Redis refused what is unsettled."""
        self._orders = orders
        self._now_ms = 0
        self._outcomes: list[Outcome | None] = [None] * len(orders)
        self._failures: dict[MonitorId, str] = {}
        self._unsettled = list(range(len(orders)))

    @property
    def unsettled(self) -> list[Order]:
        """The orders that got no reply yet, or were refused for a reason that is not their own."""
        return [self._orders[place] for place in self._unsettled]

    @property
    def answered(self) -> bool:
        """Whether there was a reply at all."""
        return None not in self._outcomes

    def take(self, reply: Sequence[int | bytes]) -> None:
        """Take the reply of one try: Redis' time, and an outcome for each unsettled order."""
        self._now_ms = cast("int", reply[0])
        asked, self._unsettled = self._unsettled, []
        for place, part in zip(asked, cast("Sequence[bytes]", reply[1:]), strict=True):
            name, _, reason = text_of(part).partition(":")
            outcome, id_ = _OUTCOMES[name], self._orders[place].id
            self._failures.pop(id_, None)
            if outcome is Outcome.FAILED:
                self._failures[id_] = reason_with_advice(reason)
                if code_of(reason) in REFUSALS:
                    self._unsettled.append(place)
                    self.reason = reason
            elif outcome is Outcome.LOST and self.retried:
                outcome = Outcome.UNKNOWN
            self._outcomes[place] = outcome

    def settlement(self) -> Settlement:
        """Return the outcomes."""
        return Settlement(self._now_ms, tuple(outcome for outcome in self._outcomes if outcome), self._failures)


def arguments_of(order: Order) -> tuple[str, MonitorId, int | str, int | str, bytes]:
    """Return an order as the five arguments that settle.lua takes."""
    if isinstance(order, Enqueue):
        name = "cached" if order.from_cache else "enqueue"
        return name, order.id, order.cadence.period_ms, order.cadence.phase_ms, order.message
    if isinstance(order, Release):
        return "release", order.id, order.delay_ms, "", b""
    return "drop", order.id, "", "", order.stale_message
