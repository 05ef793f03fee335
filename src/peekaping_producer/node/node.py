"""What the loops of one node share: when to stop, where to log and count, what is away, how long things take."""

import os
import secrets
import socket
from collections.abc import Mapping
from itertools import islice

from msgspec import Struct

from peekaping_producer.config.settings import ScheduleMode
from peekaping_producer.errors import Unavailable
from peekaping_producer.node.outage import Outage
from peekaping_producer.node.schedule_loss import ScheduleLoss
from peekaping_producer.node.slot_spacing import SpacingChoice
from peekaping_producer.node.stop import Bell, Stop
from peekaping_producer.observe.faults import Faults
from peekaping_producer.observe.log import Logger
from peekaping_producer.observe.tally import Tally
from peekaping_producer.redisdb.replies import CANNOT_SERVE, DAMAGED, REFUSALS
from peekaping_producer.timing import Timing

_MOST_NOTED = 1_000

CLAIMS, SETTLES = "claims", "settles"
"""For whom Redis is unavailable: its outage ends when these work again, whatever else gets an answer."""


class NodeStatus:
    """What a node's loops have to say of it to other nodes and to people; each sets what is its own."""

    def __init__(self, changed: Bell) -> None:
        """Begin as a follower that has done nothing."""
        self.changed = changed
        """Rung when there is something that others should know soon."""
        self.leading = False
        self.swept: Struct | None = None
        """The result of this node's last sweep."""
        self.invalid_ids: set[str] | None = None
        """Active monitors whose id is none, as this term's sweeps have seen them; None before the first has ended."""
        self._invalid: dict[str, str] = {}

    def note_invalid(self, reasons: Mapping[str, str]) -> None:
        """Note monitors that were skipped as invalid: id → reason."""
        room = _MOST_NOTED - len(self._invalid)
        self._invalid.update(islice(reasons.items(), max(0, room)))

    def take_invalid(self) -> dict[str, str]:
        """Return the monitors that were skipped as invalid since the last call."""
        taken, self._invalid = self._invalid, {}
        return taken

    def lead(self, *, leading: bool) -> None:
        """Note that this node leads, or does no longer."""
        self.leading = leading
        self.changed.ring()


class Node(Struct, frozen=True):
    """One running producer, as its loops know it."""

    id: str
    """hostname-PID-suffix; the suffix bears a letter, which a Go node's id ends without."""
    stop: Stop
    due_sooner: Bell
    """Rung when a monitor may be due before the dispatcher looks again."""
    sweep_wanted: Bell
    """Rung when the schedule may be wrong as a whole: the leader sweeps at once."""
    keys_damaged: Bell
    """Rung when a key of ours may hold another type than it should."""
    log: Logger
    tally: Tally
    faults: Faults
    redis_outage: Outage
    database_outage: Outage
    loss: ScheduleLoss
    spacing: SpacingChoice
    status: NodeStatus
    timing: Timing

    def failed(self, error: Unavailable, needed_by: str = "") -> None:
        """Note that a system is unavailable; of the database, for whom: it can fail for some and answer others.

        A Redis outage lasts until claims work again, so what Redis refuses to others while they do is none.
        """
        if error.system == "database":
            self.database_outage.failed(error, needed_by)
            return
        if error.code in DAMAGED:
            self.keys_damaged.ring()
        if needed_by in {CLAIMS, SETTLES}:
            self.redis_outage.failed(error, needed_by)
        elif error.code in REFUSALS - CANNOT_SERVE:
            self.redis_outage.refused(error, self.timing.remind_every_s)
        else:
            self.redis_outage.failed(error, CLAIMS)


def new_node_id() -> str:
    """Return an id that no other node has."""
    return f"{socket.gethostname()}-{os.getpid()}-n{secrets.token_hex(4)}"


def make_node(
    log: Logger, timing: Timing, stop: Stop, mode: ScheduleMode = ScheduleMode.AUTO, id_: str | None = None
) -> Node:
    """Return a node that nothing is known against yet."""
    id_ = id_ or new_node_id()
    log = log.bind(node=id_)
    status = NodeStatus(stop.bell())
    tally = Tally()
    database_outage = Outage("database", log, tally)
    # Other nodes go by it: they claim first, and one of them may have to lead.
    database_outage.on_change(status.changed.ring)
    return Node(
        id=id_,
        stop=stop,
        due_sooner=stop.bell(),
        sweep_wanted=stop.bell(),
        keys_damaged=stop.bell(),
        log=log,
        tally=tally,
        faults=Faults(log.error),
        redis_outage=Outage("redis", log, tally),
        database_outage=database_outage,
        loss=ScheduleLoss(log),
        spacing=SpacingChoice(mode, log),
        status=status,
        timing=timing,
    )
