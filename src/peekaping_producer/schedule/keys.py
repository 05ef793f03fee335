"""The Producer's own Redis keys (PROTOCOL 1), made here and nowhere else."""

PREFIX = "peekaping:"
"""The one constant that every key of Peekaping's begins with."""

DUE = f"{PREFIX}sched:due"
"""ZSET of monitor ids, score = Unix ms of the next run. Shared with Go producers."""
LEASE = f"{PREFIX}sched:lease"
"""ZSET of claimed monitor ids, score = Unix ms at which the claim ends. Shared with Go producers."""
EPOCH = f"{PREFIX}producer:epoch"
"""A mark that goes when Redis loses its data. Ours alone."""
CLAIMS = f"{PREFIX}sched:claims"
"""Counter of claims, which makes fencing tokens unique. Ours alone."""
