"""Restarts a loop that fails, so that it stops neither the other loops nor the node."""

import time
from collections.abc import Awaitable, Callable

from peekaping_producer.errors import NotLeading, Unavailable
from peekaping_producer.node.backoff import Backoff
from peekaping_producer.node.node import Node
from peekaping_producer.node.outage import OutageUser
from peekaping_producer.node.stop import Stop
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.outcomes import Outcome


async def kept_running(
    node: Node,
    name: str,
    loop: Callable[[], Awaitable[None]],
    stop: Stop,
    failed: LogEvent,
    database: OutageUser | None = None,
) -> None:
    """Run a loop until it is time to stop; if it ends earlier, run it again after a growing delay.

    An unexpected exception is counted, and logged as `failed`, with its traceback, once for each kind. NotLeading ends
    the loop. `database` is the OutageUser for which the database is unavailable if the loop raises Unavailable.
    """
    database = database or node.database_outage.user()
    backoff = Backoff(node.timing.retry_first_s, node.timing.retry_cap_s)
    while not stop:
        began_s = time.monotonic()
        try:
            await loop()
        except NotLeading:
            break
        except Unavailable as error:
            node.failed(error, database)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the other loops, nor the checks
            node.tally.add(Outcome.LOOP_FAILED)
            node.faults.note(failed, error, loop=name)
        if time.monotonic() - began_s > node.timing.retry_cap_s:
            backoff.reset()
        async with stop.cutting_short():
            await node.database_outage.recovery_within(backoff.next_delay_s())
    database.no_longer_needed()
