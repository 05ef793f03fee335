"""The leader's check of the workers' queue: whether the tasks that are put into it are taken."""

from redis.asyncio import Redis

from peekaping_producer.asynq.queue import QueueState, complaints, queue_state
from peekaping_producer.leader.duty import Duty
from peekaping_producer.leader.term import Term
from peekaping_producer.node.node import Node
from peekaping_producer.observe.events import LogEvent


class QueueWatch:
    """Logs once when something starts to keep tasks from being taken, and once when it ends."""

    def __init__(self, node: Node, redis: Redis) -> None:
        """Begin as if all were well."""
        self._node = node
        self._redis = redis
        self._logged: set[str] = set()
        self._before: set[str] = set()

    def duty(self) -> Duty:
        """Return the duty to check the queue."""
        return Duty("queue", self.run)

    async def run(self, term: Term) -> None:
        """Check the queue until the term is over."""
        while not term.is_over:
            self._report(await queue_state(self._redis, self._node.timing.redis_timeout_s))
            await term.ended.within(self._node.timing.queue_every_s)

    def _report(self, state: QueueState) -> None:
        """Warn of what was found twice in a row: a worker may just be restarting."""
        now = set(complaints(state))
        for complaint in sorted((now & self._before) - self._logged):
            self._node.log.warning(LogEvent.QUEUE_TROUBLE, what=complaint, pending=state.pending, workers=state.workers)
            self._logged.add(complaint)
        for complaint in sorted(self._logged - now):
            self._node.log.info(
                LogEvent.QUEUE_TROUBLE_OVER, what=complaint, pending=state.pending, workers=state.workers
            )
            self._logged.remove(complaint)
        self._before = now
