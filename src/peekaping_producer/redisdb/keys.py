"""The Producer's own Redis keys (docs/protocol.md, section 1), made here and nowhere else."""

PREFIX = "peekaping:"
"""The one constant that every key of Peekaping's begins with."""

DUE = f"{PREFIX}sched:due"
"""ZSET of monitor ids, score = Unix ms of the next run. Shared with Go producers."""
LEASE = f"{PREFIX}sched:lease"
"""ZSET of claimed monitor ids, score = Unix ms at which the claim ends. Shared with Go producers."""
CLAIMS = f"{PREFIX}sched:claims"
"""Counter of claims, which makes fencing tokens unique. Ours alone, as all that follow."""

LEADER = f"{PREFIX}producer:leader"
"""STRING with a TTL: the node that leads. Shared with Go producers."""
EPOCH = f"{PREFIX}producer:epoch"
"""STRING the leader writes again and again: another one than its last means that Redis lost what came after."""
REMOVED = f"{PREFIX}producer:removed"
"""ZSET of tombstones: monitor ids, score = Unix ms of their removal."""
GO_SEEN = f"{PREFIX}producer:go-seen"
"""STRING with a TTL: stands while a Go producer has been noticed of late."""
NODES = f"{PREFIX}producer:nodes"
"""ZSET of node ids, score = Unix ms until which the node counts as alive. One that died stays for an hour."""
NODE = f"{PREFIX}producer:node:"
"""And a node's id: STRING with a TTL, what that node says of itself, as JSON."""
STEP = f"{PREFIX}producer:clock-step"
"""HASH with a TTL: the last step of Redis' clock, and whether the leader has swept since."""
HEALTHY = f"{PREFIX}producer:healthy"
"""ZSET of the ids of nodes whose database answers, score = Unix ms until which that counts."""
LEFT = f"{PREFIX}producer:left"
"""Counter of monitors that settles and removals took out of the schedule: what else is gone from it was lost."""
INVALID = f"{PREFIX}producer:invalid"
"""HASH: id of a monitor that is skipped as invalid → the reason. Of the first 1,000."""
SIGNALS = f"{PREFIX}producer:signals"
"""Channel between nodes: `vacant` when a leader has resigned, `due` when a monitor is due sooner than was known,
`clock` when Redis' clock was stepped, `vanished` when a claimed monitor was in neither set."""

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
    HEALTHY: "zset",
    INVALID: "hash",
    STEP: "hash",
}
"""What each key must hold, as TYPE calls it; `number` is a string with an integer. A node's record is overwritten."""
