"""The wait at the start until Redis answers and the database is migrated: both may start later than the producer."""

from collections.abc import Awaitable, Callable

from peekaping_producer.errors import Unavailable
from peekaping_producer.node.backoff import Backoff
from peekaping_producer.node.node import Node
from peekaping_producer.node.outage import Outage


async def until_ready(check: Callable[[], Awaitable[None]], outage: Outage, node: Node) -> None:
    """Try until `check` raises no Unavailable, or it is time to stop.

    The log says what is missing: at first, for each new reason, and every minute.
    """
    user = outage.user()
    backoff = Backoff(node.timing.retry_first_s, node.timing.retry_cap_s)
    while not node.stop:
        node.liveness.turned()
        try:
            async with node.stop.cutting_short():
                await check()
        except Unavailable as error:
            node.liveness.turned()
            user.failed(error)
            outage.remind(node.timing.start_remind_every_s)
            await node.stop.within(backoff.next_delay_s())
        else:
            if not node.stop:
                user.recovered()
            return
