"""The wait at the start for what the producer needs: Redis and a migrated database may come up after it."""

from collections.abc import Awaitable, Callable

from peekaping_producer.errors import Unavailable
from peekaping_producer.node.backoff import Backoff
from peekaping_producer.node.node import Node
from peekaping_producer.node.outage import Outage


async def until_ready(check: Callable[[], Awaitable[None]], outage: Outage, node: Node) -> None:
    """Try until `check` raises nothing more or it is time to stop.

    Writes a warning that says what is missing, a line for each new reason, and a reminder every minute.
    """
    backoff = Backoff(node.timing.retry_first_s, node.timing.retry_cap_s)
    while not node.stop:
        try:
            async with node.stop.cutting_short():
                await check()
        except Unavailable as error:
            outage.failed(error)
            outage.remind(node.timing.start_remind_every_s)
            await node.stop.within(backoff.next_delay_s())
        else:
            if not node.stop:
                outage.recovered()
            return
