"""The producer's own Redis keys (docs/protocol.md, section 1), defined here only."""

PREFIX = "peekaping:"
"""What every key of Peekaping's begins with."""

DUE = f"{PREFIX}sched:due"
"""ZSET of monitor ids, score = Unix ms of the next run. Shared with Go producers."""
LEASE = f"{PREFIX}sched:lease"
"""ZSET of claimed monitor ids, score = Unix ms at which the claim expires. Shared with Go producers."""
CLAIMS = f"{PREFIX}sched:claims"
"""Counter of claims, which makes fencing tokens unique. No Go producer uses it, nor any key below but the leader."""

LEADER = f"{PREFIX}producer:leader"
"""STRING with a TTL: the node that leads. Shared with Go producers."""
EPOCH = f"{PREFIX}producer:epoch"
"""STRING that the leader replaces every second: if it finds an older one, Redis has lost data."""
REMOVED = f"{PREFIX}producer:removed"
"""ZSET of tombstones: monitor ids, score = Unix ms of their removal."""
GO_SEEN = f"{PREFIX}producer:go-seen"
"""STRING with a TTL: there while a Go producer has been noticed recently."""
NODES = f"{PREFIX}producer:nodes"
"""ZSET of node ids, score = Unix ms until which the node counts as alive. A node that died is kept for an hour."""
INACTIVE = f"{PREFIX}producer:inactive"
"""ZSET of ids of nodes that have stopped, or wait for their database at their start; score = Unix ms until which their
records count."""
NODE = f"{PREFIX}producer:node:"
"""Followed by a node's id: STRING with a TTL, the node's record as JSON."""
STEP = f"{PREFIX}producer:clock-step"
"""HASH with a TTL: the last step of Redis' clock, and whether the leader has swept since."""
HEALTHY = f"{PREFIX}producer:healthy"
"""ZSET of ids of nodes with a healthy database, score = Unix ms until which that counts."""
LEFT = f"{PREFIX}producer:left"
"""Counter of monitors that settles and removals took out of the schedule: what else is missing was lost."""
INVALID = f"{PREFIX}producer:invalid"
"""HASH: id of a monitor that is skipped as invalid → the reason. At most 1,000."""
PAUSE = f"{PREFIX}producer:pause"
"""HASH with a TTL, there while checks are paused: since_ms and until_ms (Unix ms by Redis' clock), reason, by."""
SIGNALS = f"{PREFIX}producer:signals"
"""Channel between nodes: `vacant` when a leader has resigned, `due` when a monitor is due sooner than expected,
`clock` when Redis' clock was stepped, `vanished` when a claimed monitor was in neither set, `pause` when checks were
paused or resumed."""

OUR_TYPES = {
    DUE: "zset",
    LEASE: "zset",
    CLAIMS: "number",
    LEFT: "number",
    LEADER: "string",
    EPOCH: "string",
    REMOVED: "zset",
    GO_SEEN: "string",
    NODES: "zset",
    INACTIVE: "zset",
    HEALTHY: "zset",
    INVALID: "hash",
    STEP: "hash",
    PAUSE: "hash",
}
"""The type of each key, by the name that TYPE returns; `number` is a string with an integer."""
