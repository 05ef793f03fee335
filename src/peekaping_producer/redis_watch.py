"""What a node does when Redis is unavailable: connections are dropped, outages logged again, damaged keys renamed."""

from redis.asyncio import Redis

from peekaping_producer.node import Bell, Node
from peekaping_producer.schedule.pool import drop_connections

_IDLE_S = 5.0


class RedisWatch:
    """What a node does about a Redis that has been away."""

    def __init__(self, node: Node, redis: Redis) -> None:
        """Hear of outages from now on."""
        self._node = node
        self._redis = redis
        self._changed: Bell = node.stop.bell()
        node.redis.on_change(self._changed.ring)

    async def connections_loop(self) -> None:
        """Drop connections that may lead to a server that is no longer in charge, until it is time to stop.

        At the beginning of an outage those that are idle. At its end the subscriptions too: made during the outage,
        one may lead to a server that answers and is told nothing.
        """
        while not self._node.stop:
            if await self._changed.within(_IDLE_S):
                await drop_connections(self._redis, subscriptions=not self._node.redis.ongoing)

    async def reminder_loop(self) -> None:
        """Log outages that go on again every five minutes, until it is time to stop."""
        every_s = self._node.timing.remind_every_s
        while not await self._node.stop.within(min(_IDLE_S, every_s / 4)):
            for outage in (self._node.redis, self._node.database):
                outage.remind(every_s)
