"""The loop that puts ended claims back into due: the only recovery from a dead node, run by every node."""

from peekaping_producer.errors import Unavailable
from peekaping_producer.observe.log import Logger
from peekaping_producer.observe.tally import Tally
from peekaping_producer.backoff import Outage
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.stopping import Stop
from peekaping_producer.timing import Timing


async def reclaim_loop(  # noqa: PLR0913 - the parts it joins
    schedule: Schedule, tally: Tally, log: Logger, stop: Stop, outage: Outage, timing: Timing
) -> None:
    """Reclaim every second until it is time to stop, and at once again while there is more than one call takes."""
    reclaimed = 0
    while not await stop.within(0 if reclaimed >= timing.reclaim_limit else timing.reclaim_every_s):
        try:
            reclaimed = await schedule.reclaim()
        except Unavailable as error:
            outage.failed(error)
            reclaimed = 0
            continue
        if reclaimed:
            tally.add("reclaimed", reclaimed)
            log.warning("claims ended unsettled, due again", count=reclaimed)
