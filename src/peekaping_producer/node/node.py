"""What the loops of one node share: when to stop, where to log and count, outages, timing."""

import os
import secrets
import socket
import time

from msgspec import Struct

from peekaping_producer.config.settings import ScheduleMode
from peekaping_producer.errors import Unavailable
from peekaping_producer.node.liveness import Liveness
from peekaping_producer.node.outage import Outage, OutageUser
from peekaping_producer.node.pause_watch import PauseWatch
from peekaping_producer.node.schedule_loss import ScheduleLoss
from peekaping_producer.node.slot_spacing import SpacingChoice
from peekaping_producer.node.status import NodeStatus
from peekaping_producer.node.stop import Bell, Stop
from peekaping_producer.observe.faults import Faults
from peekaping_producer.observe.history import History
from peekaping_producer.observe.log import Logger
from peekaping_producer.observe.measures import Measures
from peekaping_producer.observe.tally import Tally
from peekaping_producer.redisdb.replies import CANNOT_SERVE, DAMAGED, REFUSALS
from peekaping_producer.timing import Timing


class Node(Struct, frozen=True):
    """One running producer."""

    id: str
    """hostname-PID-suffix. The suffix contains a letter, so the id does not look like a Go node's."""
    started_s: float
    """When it was made, by the monotonic clock."""
    stop: Stop
    due_sooner: Bell
    """Rung when a monitor may be due before the next claim."""
    sweep_wanted: Bell
    """Rung when much of the schedule may be wrong: the leader sweeps at once."""
    keys_damaged: Bell
    """Rung when a key of ours may hold the wrong type."""
    log: Logger
    tally: Tally
    measures: Measures
    history: History
    faults: Faults
    redis_outage: Outage
    claims: OutageUser
    settles: OutageUser
    """Claims and settles: an outage of Redis lasts until both work, even if Redis answers other commands."""
    database_outage: Outage
    pause: PauseWatch
    loss: ScheduleLoss
    spacing: SpacingChoice
    status: NodeStatus
    liveness: Liveness
    timing: Timing

    def failed(self, error: Unavailable, database: OutageUser) -> None:
        """Note that Redis or the database is unavailable, and for which user of the database."""
        if error.system == "database":
            database.failed(error)
        else:
            self.redis_failed(error)

    def redis_failed(self, error: Unavailable, user: OutageUser | None = None) -> None:
        """Note that Redis is unavailable for claims, for settles, or for anything else.

        A Redis outage lasts until claims and settles work. If Redis only refuses a command of another part of the
        node, it is available.
        """
        if error.code in DAMAGED:
            self.keys_damaged.ring()
        if user is None and error.code in REFUSALS - CANNOT_SERVE:
            self.redis_outage.refused(error, self.timing.remind_every_s)
        else:
            (user or self.claims).failed(error)


def new_node_id() -> str:
    """Return an id that no other node has."""
    return f"{socket.gethostname()}-{os.getpid()}-n{secrets.token_hex(4)}"


def make_node(
    log: Logger, timing: Timing, stop: Stop, mode: ScheduleMode = ScheduleMode.AUTO, id_: str | None = None
) -> Node:
    """Return a new node."""
    id_ = id_ or new_node_id()
    log = log.bind(node=id_)
    status = NodeStatus(stop.bell())
    tally, measures = Tally(), Measures()
    redis_outage = Outage("redis", log, tally)
    database_outage = Outage("database", log, tally)
    # Nodes with a healthy database claim first, and one of them may have to lead.
    database_outage.on_change(status.changed.ring)
    return Node(
        id=id_,
        started_s=time.monotonic(),
        stop=stop,
        due_sooner=stop.bell(),
        sweep_wanted=stop.bell(),
        keys_damaged=stop.bell(),
        log=log,
        tally=tally,
        measures=measures,
        history=History(tally, measures),
        faults=Faults(log.error),
        redis_outage=redis_outage,
        claims=redis_outage.user(),
        settles=redis_outage.user(),
        database_outage=database_outage,
        pause=PauseWatch(log),
        loss=ScheduleLoss(log),
        spacing=SpacingChoice(mode, log),
        status=status,
        liveness=Liveness(timing.turns_reported_every_s),
        timing=timing,
    )
