"""What the page shows at one instant, read at most once a second for all pages together."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.catalog.rows import instant_or_none
from peekaping_producer.clock import now_utc
from peekaping_producer.errors import Unavailable
from peekaping_producer.node.node import Node
from peekaping_producer.node.outage import Outage
from peekaping_producer.observe.history import Healed
from peekaping_producer.report.status import NameSource, read_status
from peekaping_producer.report.status_values import Status
from peekaping_producer.schedule.view import ScheduleView
from peekaping_producer.web.headline import Headline, Problem, Situation, System, headline
from peekaping_producer.web.load_clock import SECONDS, Dial, dial

_MOST_HEALED = 5


class Found(Struct, frozen=True):
    """What was read from Redis."""

    status: Status
    counts: list[int] | None
    """Checks in each of the next 60 seconds; None while no page is open."""
    names: dict[str, str]
    """The names of the monitors below and of the oldest task, as far as they are known."""
    healed: list[Healed]
    """The monitors that were healed last, the newest first."""

    @property
    def dial(self) -> Dial | None:
        """The dial of the next minute."""
        return None if self.counts is None else dial(self.counts, datetime.fromisoformat(self.status.at).second)


class Snapshot:
    """What the page shows."""

    def __init__(self, found: Found | None, situation: Situation, since: Mapping[str, datetime]) -> None:
        """Take what was read last; `since` maps earlier problems to when they were first seen."""
        self.found = found
        self.now = now_utc().replace(microsecond=0)
        self.redis_down = bool(situation.redis.problem) or not situation.redis.answered
        self.headline: Headline = headline(situation)
        self.since = {problem.code: self._since(problem, since) for problem in self.headline.problems}

    def _since(self, problem: Problem, before: Mapping[str, datetime]) -> datetime:
        if problem.for_s is not None:
            began = self.now - timedelta(seconds=round(problem.for_s))
            # The same time as before, unless it is another outage: rounding must not make it jump.
            earlier = before.get(problem.code)
            return earlier if earlier and abs(earlier - began) <= timedelta(seconds=3) else began
        return before.get(problem.code, self.now)


class SnapshotReader:
    """Reads the snapshots."""

    def __init__(self, node: Node, redis: Redis, names: NameSource) -> None:
        """Take the client."""
        self._node = node
        self._redis = redis
        self._names = names
        self._view = ScheduleView(redis, node.timing.redis_timeout_s)
        self._found: Found | None = None
        self._since: dict[str, datetime] = {}

    async def snapshot(self, *, with_dial: bool) -> Snapshot:
        """Return the current state; what Redis does not answer stays as last read."""
        node = self._node
        if node.redis_outage.has_answered and not node.redis_outage.ongoing:
            try:
                self._found = await self._read(with_dial=with_dial)
            except Unavailable as error:
                node.redis_failed(error)
        status = self._found.status if self._found else None
        situation = Situation(_system(node.redis_outage), _system(node.database_outage), status)
        snapshot = Snapshot(self._found, situation, self._since)
        self._since = snapshot.since
        return snapshot

    async def _read(self, *, with_dial: bool) -> Found:
        status = await read_status(self._redis, self._node.timing, self._names)
        now_ms = int(datetime.fromisoformat(status.at).timestamp() * 1000)
        counts = await self._view.upcoming(now_ms, SECONDS) if with_dial else None
        healed = _newest(one for node in status.nodes for one in node.recent.healed)
        oldest = [status.queue.oldest.monitor_id] if status.queue.oldest else []
        names = await self._names.of([*oldest, *(one.monitor_id for one in healed)])
        return Found(status, counts, names, healed)


def _newest(healed: Iterable[Healed]) -> list[Healed]:
    """Return the newest ones, the newest first; those whose time is garbage are left out."""
    dated = [(at, one) for one in healed if (at := instant_or_none(one.at))]
    return [one for _, one in sorted(dated, key=lambda pair: pair[0], reverse=True)[:_MOST_HEALED]]


def _system(outage: Outage) -> System:
    return System(outage.has_answered, outage.reason, outage.ongoing_s)
