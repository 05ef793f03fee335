"""What a node does about Redis' failures: it drops connections, logs outages again, and renames damaged keys."""

from redis.asyncio import Redis

from peekaping_producer.errors import Unavailable
from peekaping_producer.node.node import Node
from peekaping_producer.node.stop import Bell
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.redisdb.pool import drop_connections
from peekaping_producer.schedule.orders import WrongKey
from peekaping_producer.schedule.store import Schedule

_IDLE_S = 5.0
_REPAIR_EVERY_S = 0.5


class RedisWatch:
    """Three loops that deal with Redis' failures."""

    def __init__(self, node: Node, redis: Redis, schedule: Schedule) -> None:
        """Watch for outages from now on."""
        self._node = node
        self._redis = redis
        self._schedule = schedule
        self._reported: set[str] = set()
        self._changed: Bell = node.stop.bell()
        node.redis_outage.on_change(self._changed.ring)

    async def connections_loop(self) -> None:
        """Drop connections that may lead to a server that is no longer the primary, until it is time to stop.

        At the start of an outage the idle ones. At its end also the subscriptions: one made during the outage may lead
        to a server that answers but receives no messages.
        """
        while not self._node.stop:
            if await self._changed.within(_IDLE_S) and not self._node.stop:
                await drop_connections(self._redis, subscriptions=not self._node.redis_outage.ongoing)

    async def reminder_loop(self) -> None:
        """Log again, every five minutes, outages and a pause that have not ended, until it is time to stop."""
        every_s = self._node.timing.remind_every_s
        while not await self._node.stop.within(min(_IDLE_S, every_s / 4)):
            for outage in (self._node.redis_outage, self._node.database_outage):
                outage.remind(every_s)
            self._node.pause.remind(every_s)

    async def keys_loop(self) -> None:
        """Rename keys of ours that hold the wrong type, until it is time to stop.

        A sweep restores their content: the leader notices that the schedule shrank, or its term ends.
        """
        while not self._node.stop:
            if await self._node.keys_damaged.within(self._node.timing.keys_every_s) or self._node.status.leading:
                try:
                    self._report(await self._schedule.repair())
                except Unavailable as error:
                    self._node.redis_failed(error)
                # Each settle reports a wrong key of asynq's again.
                await self._node.stop.within(_REPAIR_EVERY_S)

    def _report(self, wrong: list[WrongKey]) -> None:
        log = self._node.log
        for one in wrong:
            if one.renamed_to:
                log.error(LogEvent.REDIS_KEY_RENAMED, key=one.key, found=one.found, renamed_to=one.renamed_to)
            elif one.key not in self._reported:
                log.error(LogEvent.ASYNQ_KEY_UNUSABLE, key=one.key, found=one.found)
        self._reported = {one.key for one in wrong}
