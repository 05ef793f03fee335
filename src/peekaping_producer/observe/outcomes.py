"""Everything that is counted: what became of each claimed monitor, and other faults.

A new outcome is one member here, one call of the tally where it happens, and one row of docs/logs.md. The summary shows
every outcome that was counted, by its value.
"""

from enum import StrEnum


class Outcome(StrEnum):
    """One thing that is counted. The docstrings say what it means for an operator; docs/logs.md repeats them."""

    # What settle.lua returns for each order.
    ENQUEUED = "enqueued"
    """A task was put into the queue."""
    REFRESHED = "refreshed"
    """The earlier task still waits: it keeps its place, and its payload was updated. If there are many, the workers are
    too slow."""
    RUNNING = "running"
    """The earlier check still runs, and was left alone."""
    HEALED_ORPHANED = "healed_orphaned"
    """The worker that ran the earlier task is dead; the task was replaced."""
    HEALED_ARCHIVED = "healed_archived"
    """The earlier task was archived; it was replaced."""
    HEALED_COMPLETED = "healed_completed"
    """The earlier task was kept as completed; it was replaced."""
    HEALED_RETRY = "healed_retry"
    """The earlier task was scheduled for a retry; it was replaced."""
    HEALED_SCHEDULED = "healed_scheduled"
    """The earlier task was scheduled for later; it was replaced."""
    HEALED_AGGREGATING = "healed_aggregating"
    """The earlier task was in a group; it was replaced."""
    HEALED_UNLISTED = "healed_unlisted"
    """The earlier task was marked as pending but was in no list, so no worker could take it; it was replaced."""
    HEALED_MALFORMED = "healed_malformed"
    """The earlier task was damaged; it was replaced."""
    RELEASED = "released"
    """Claimed just before the database became unavailable, and not in the cache: due again after a short delay."""
    DROPPED = "dropped"
    """Taken out of the schedule: deleted, inactive or skipped as invalid."""
    POSTPONED = "postponed"
    """Its earlier task waits in a very long queue. One settle searches such a queue for a few tasks only, and this was
    one too many. The monitor is due again in a second.
    """
    LOST = "lost"
    """The claim was no longer valid: it had expired, and the monitor is due again; or the monitor had been removed.
    Nothing was changed.
    """
    UNKNOWN = "unknown"
    """Redis' reply was lost, and a second try found the claim gone: settled by the first try, or expired."""
    FAILED = "failed"
    """Redis refused to settle this monitor. It is due again when the claim expires."""

    # What a node found before it settled.
    INVALID = "invalid"
    """Skipped as invalid; the log and `status` name the monitor and the reason."""
    GONE = "gone"
    """Deleted or inactive by the time of its check."""
    DEFERRED_NOT_CACHED = "deferred_not_cached"
    """The database is unavailable, and this node's cache does not have the monitor: it stays due, or is `released`."""
    DEFERRED_PUSH = "deferred_push"
    """The database is unavailable, and a push monitor cannot be served from the cache: it stays due, or is `released`.
    """
    FROM_CACHE = "from_cache"
    """The database is unavailable: the check was built from the cache. It is also counted by how it was settled."""

    # The checks that were not made: slots that a settled monitor has skipped since its due time (dispatch/missed.py).
    MISSED_NO_NODE = "missed_no_node"
    """A slot passed without a check: no node ran, or the one that had claimed the monitor died or was frozen."""
    MISSED_REDIS = "missed_redis"
    """A slot passed without a check: Redis was unavailable."""
    MISSED_DATABASE = "missed_database"
    """A slot passed without a check: the database was unavailable, and the cache could not serve the monitor."""
    MISSED_PAUSED = "missed_paused"
    """A slot passed without a check: checks were paused, by `pause` or on the page."""
    MISSED_OVERLOAD = "missed_overload"
    """A slot passed without a check: the nodes or the workers were too slow, or the queue was very long."""
    MISSED_STILL_RUNNING = "missed_still_running"
    """A slot passed without a check: the earlier check was still running."""

    # What else went wrong.
    RECLAIMED = "reclaimed"
    """A claim expired: its node died, or could not reach Redis. The monitor is due again."""
    UNSETTLED = "unsettled"
    """Redis did not answer this node's settle before the claim expired. The monitor is due again, and the node that
    puts it back counts `reclaimed`.
    """
    EVENT_DROPPED = "event_dropped"
    """A message on Peekaping's event channels could not be understood; the log says why."""
    LOOP_FAILED = "loop_failed"
    """A part of the producer failed and was restarted; the log has the traceback. Please report it."""


HEALED = frozenset(outcome for outcome in Outcome if outcome.startswith("healed_"))
"""The outcomes after which a task that blocked its monitor is replaced."""
PLACED = HEALED | {Outcome.ENQUEUED, Outcome.REFRESHED}
"""The outcomes after which a fresh task waits for a worker."""
MISSED = frozenset(outcome for outcome in Outcome if outcome.startswith("missed_"))
"""The checks that were not made."""
