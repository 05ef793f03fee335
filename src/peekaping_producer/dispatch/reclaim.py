"""The loop that puts expired claims back into due (invariant 3). Every node runs it, in case another one dies."""

from peekaping_producer.errors import Unavailable
from peekaping_producer.node.node import Node
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.observe.paced import Paced
from peekaping_producer.schedule.store import Schedule


async def reclaim_loop(node: Node, schedule: Schedule) -> None:
    """Reclaim every second until it is time to stop; again at once if there was as much as one call takes."""
    timing = node.timing
    reclaimed, expired = 0, Paced(node.log.warning, LogEvent.CLAIMS_EXPIRED, node.timing.often_logged_every_s)
    while not await node.stop.within(0 if reclaimed >= timing.reclaim_limit else timing.reclaim_every_s):
        try:
            reclaimed = await schedule.reclaim()
        except Unavailable as error:
            node.redis_failed(error)
            reclaimed = 0
            continue
        if reclaimed:
            node.due_sooner.ring()
            node.tally.add(Outcome.RECLAIMED, reclaimed)
            expired.add({"count": reclaimed})
