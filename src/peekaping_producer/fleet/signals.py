"""Signals between nodes: leadership is vacant, a monitor is due sooner, the clock was stepped, checks are paused."""

from redis.asyncio import Redis

from peekaping_producer.errors import Unavailable
from peekaping_producer.node.backoff import Backoff
from peekaping_producer.node.node import Node
from peekaping_producer.node.stop import Bell
from peekaping_producer.redisdb.keys import SIGNALS
from peekaping_producer.redisdb.subscription import listen


async def signals_loop(node: Node, redis: Redis, vacant: Bell) -> None:
    """Listen until it is time to stop. A lost signal costs a second at most, as every loop polls, too."""
    bells = {b"vacant": vacant, b"due": node.due_sooner, b"clock": node.sweep_wanted, b"vanished": node.sweep_wanted}
    # A claim finds out whether checks are paused.
    bells[b"pause"] = node.due_sooner

    def ring(_channel: str, data: bytes) -> None:
        if data == b"vanished" and node.status.leading:
            node.loss.suspect("claimed monitors are missing from the schedule")
        if data in bells:
            bells[data].ring()

    backoff = Backoff(node.timing.retry_first_s, node.timing.redis_retry_cap_s)
    while not node.stop:
        try:
            async with node.stop.cutting_short():
                await listen(redis, [SIGNALS], node.timing, ring, backoff.reset)
        except Unavailable as error:
            node.redis_failed(error)
            await node.stop.within(backoff.next_delay_s())
