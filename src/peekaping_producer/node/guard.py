"""What keeps a loop running: one that fails is started again, and stops neither the others nor the node."""

import time
from collections.abc import Awaitable, Callable

from peekaping_producer.errors import NotLeading, Unavailable
from peekaping_producer.node.backoff import Backoff
from peekaping_producer.node.node import Node
from peekaping_producer.node.stop import Stop
from peekaping_producer.observe.outcomes import Outcome

FAILED = "a loop failed, restarting"


async def kept_running(node: Node, name: str, loop: Callable[[], Awaitable[None]], stop: Stop | None = None) -> None:
    """Run a loop until it is time to stop, and again after a growing delay whenever it ends before.

    An unforeseen exception is logged with its traceback once for each kind, and counted. Whoever no longer leads has
    nothing more to do.
    """
    stop = node.stop if stop is None else stop
    backoff = Backoff(node.timing.retry_first_s, node.timing.retry_cap_s)
    while not stop:
        began_s = time.monotonic()
        try:
            await loop()
        except NotLeading:
            return
        except Unavailable as error:
            node.failed(error, name)
        except Exception as error:  # noqa: BLE001 - whatever it is: it must not end the others, nor the checks
            node.tally.add(Outcome.LOOP_FAILED)
            node.faults.note(FAILED, error, loop=name)
        if time.monotonic() - began_s > node.timing.retry_cap_s:
            backoff.reset()
        async with stop.cutting_short():
            await node.database_outage.recovery_within(backoff.next_delay_s())
