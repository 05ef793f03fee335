"""The leader's look at the other end of the queue: whether the checks that we put there are ever taken."""

from redis.asyncio import Redis

from peekaping_producer.asynq.queue import QueueState, complaints, queue_state
from peekaping_producer.leader.term import Term
from peekaping_producer.node.node import Node
from peekaping_producer.observe.events import LogEvent


class QueueWatch:
    """Tells once when something begins that keeps checks from being run, and once when it ends."""

    def __init__(self, node: Node, redis: Redis) -> None:
        """Begin as if all were well."""
        self._node = node
        self._redis = redis
        self._told: set[str] = set()
        self._before: set[str] = set()

    async def duty(self, term: Term) -> None:
        """Look until the term is over."""
        while not term.is_over:
            self._tell(await queue_state(self._redis, self._node.timing.redis_timeout_s))
            await term.ended.within(self._node.timing.queue_every_s)

    def _tell(self, state: QueueState) -> None:
        """Warn of what was seen twice in a row: a worker may just be starting anew."""
        now = set(complaints(state))
        for complaint in sorted((now & self._before) - self._told):
            self._node.log.warning(LogEvent.QUEUE_TROUBLE, what=complaint, pending=state.pending, workers=state.workers)
            self._told.add(complaint)
        for complaint in sorted(self._told - now):
            self._node.log.info(
                LogEvent.QUEUE_TROUBLE_OVER, what=complaint, pending=state.pending, workers=state.workers
            )
            self._told.remove(complaint)
        self._before = now
