"""Every event that the log can contain. docs/logs.md lists them all, with their levels and fields.

Each docstring says what happened and what to do about it; a test keeps docs/logs.md equal to them.
"""

from enum import StrEnum


class LogEvent(StrEnum):
    """A constant name in lower case: a subject and, if it changed, its new state. Details are fields of the line."""

    # Start and stop
    PRODUCER_STARTING = "producer starting"
    """The process has started. Nothing to do."""
    SETTINGS_LOADED = "settings loaded"
    """The settings in effect, by the names of their variables, secrets masked. Nothing to do."""
    SETUP_WARNING = "setup warning"
    """What `peekaping-producer check` warns about too (`what`), logged once, a second after the start. To do: see
    `to_do`.
    """
    UNKNOWN_VARIABLE = "unknown variable ignored"
    """A variable looks like a setting but is not one. To do: correct its name (`did_you_mean`) or remove it."""
    SHUTDOWN_REQUESTED = "shutdown requested"
    """A signal arrived; the node settles what it has claimed, then stops. Nothing to do."""
    PRODUCER_STOPPED = "producer stopped"
    """The node has settled everything and closed its connections. Nothing to do."""
    PRODUCER_FAILED = "producer failed"
    """The process ends with exit code 2 (wrong settings or rights) or 1 (unexpected error); one line for each problem,
    on standard error, in plain text unless `MODE=prod`. To do: fix what `problem` says; report an unexpected error.
    """

    ALIVE_FILE_FAILED = "alive file not written"
    """`PRODUCER_ALIVE_FILE` cannot be written any more, so `probe` will report this node as not alive. To do: fix what
    `reason` says.
    """

    # Checks
    SUMMARY = "summary"
    """How the checks of the last minute went; see below. Nothing to do."""
    BATCHES_SETTLED = "batches settled"
    """Claimed monitors were read and settled; `placed` is the number of checks that are in the queue, `ms` the total
    time of these batches. Nothing to do.
    """
    MONITORS_INVALID = "monitors skipped as invalid"
    """Rows are invalid, so these monitors are not checked; `reasons` shows up to five, each logged once. To do: fix the
    rows; `status` lists them.
    """
    MAINTENANCES_INVALID = "maintenances skipped as invalid"
    """Active maintenances cannot be evaluated; their monitors are checked as if outside the window. To do: fix the
    maintenances.
    """
    MONITORS_NOT_SETTLED = "monitors not settled"
    """Redis refused to write the result of a claim; the monitors are due again when it expires. To do: fix what
    `reason` says.
    """
    CLAIMS_EXPIRED = "claims expired"
    """Monitors were claimed but not settled in time, because a node died, was frozen or lost Redis; they are due again.
    To do: find out why, if it recurs.
    """

    # Pauses
    CHECKS_PAUSED = "checks paused"
    """Somebody (`by`) has paused all checks, or changed the end of the pause; they resume at `until`. To do: nothing,
    or `peekaping-producer resume`.
    """
    CHECKS_STILL_PAUSED = "checks still paused"
    """The pause goes on; logged every 5 minutes. To do: nothing, or `peekaping-producer resume`."""
    CHECKS_RESUMED = "checks resumed"
    """The pause is over, and what is overdue is checked now; `early` if it ended before its time, by `resume` or
    because Redis lost its data. Nothing to do.
    """

    # Leadership and schedule
    LEADERSHIP_TAKEN = "leadership taken"
    """This node leads from now on. Nothing to do."""
    LEADERSHIP_RESIGNED = "leadership resigned"
    """This node handed over: at a shutdown, or (a warning) because it cannot read the database and another node can. To
    do: for a warning, fix this node's access to the database.
    """
    LEADERSHIP_LOST = "leadership lost"
    """Another node leads, Redis lost data, or Redis did not confirm an extension in time. To do: check Redis and the
    load of this host, if it recurs.
    """
    RESIGNATION_FAILED = "resignation failed"
    """Redis did not answer when this node resigned; the term will expire within 4 s. Nothing to do."""
    ANOTHER_NODE_LEADS = "another node leads"
    """This node follows `leader`. Nothing to do."""
    SWEEP_FINISHED = "sweep finished"
    """The leader compared the whole database with the schedule and changed something. Nothing to do."""
    SWEEP_CHANGED_NOTHING = "sweep changed nothing"
    """The leader compared the whole database with the schedule; they agree. Nothing to do."""
    SWEEP_IN_PROGRESS = "sweep in progress"
    """A long sweep reports its progress every 10 s. Nothing to do."""
    NO_ACTIVE_MONITOR = "no active monitor found"
    """There is nothing to check. To do: check `DB_NAME` if there should be."""
    EVENTS_HANDLED = "events handled"
    """The leader read the monitors named by events of the API server. Nothing to do."""
    EVENTS_INVALID = "events dropped as invalid"
    """Messages on Peekaping's channels are not valid events; sweeps still find every change. To do: find out who
    publishes them.
    """
    SCHEDULE_LOST = "schedule lost"
    """Redis lost its data or a part of the schedule; a sweep rebuilds it. To do: find out why Redis lost data."""
    SCHEDULE_REBUILT = "schedule rebuilt"
    """A sweep has scheduled all monitors again. Nothing to do."""
    GO_PRODUCER_DETECTED = "go producer detected"
    """A Go producer runs too, so checks are aligned to its slots (`PRODUCER_SCHEDULE=auto`). Nothing to do."""
    GO_PRODUCER_GONE = "go producer gone"
    """No Go producer has been detected for 2 minutes; checks are spread again. Nothing to do."""

    # The queue
    QUEUE_TROUBLE = "queue trouble started"
    """The queue is paused, no worker takes from it, or checks wait longer than their interval (`what`). To do: resume
    the queue, or start more workers.
    """
    QUEUE_TROUBLE_OVER = "queue trouble ended"
    """`what` is over. Nothing to do."""

    # Redis
    REDIS_UNAVAILABLE = "redis unavailable"
    """Claims or settles fail, so this node makes no checks; it retries. To do: fix what `reason` says, if it does not
    recover.
    """
    REDIS_STILL_UNAVAILABLE = "redis still unavailable"
    """The outage goes on: a warning every 5 minutes (every minute at the start), info for each new reason. To do: fix
    what `reason` says.
    """
    REDIS_RECOVERED = "redis recovered"
    """Claims and settles work again. Nothing to do."""
    REDIS_COMMAND_REFUSED = "redis command refused"
    """Redis refuses a command although claims work; logged at most every 5 minutes for each reason. To do: fix what
    `reason` says.
    """
    REDIS_CLOCK_STEPPED = "redis clock stepped"
    """Redis' clock jumped by more than a second since the last claim (`by_s`, negative: back); the schedule is
    corrected at once. To do: check the time synchronisation of Redis' host.
    """
    REDIS_KEY_RENAMED = "redis key of wrong type renamed"
    """A key of the producer had the wrong type; it was renamed to `renamed_to` and the schedule is rebuilt. To do: find
    out who wrote it; delete the renamed key.
    """
    ASYNQ_KEY_UNUSABLE = "asynq key of wrong type found"
    """A key of asynq has the wrong type, so checks wait. To do: rename or delete `key`."""

    # The database
    DATABASE_UNAVAILABLE = "database unavailable"
    """Reads fail; checks are served from the cache (at the start, the node waits), and reads are retried. To do: fix
    what `reason` says, if it does not recover.
    """
    DATABASE_STILL_UNAVAILABLE = "database still unavailable"
    """The outage goes on: a warning every 5 minutes (every minute at the start), info for each new reason. To do: fix
    what `reason` says.
    """
    DATABASE_RECOVERED = "database recovered"
    """All reads work again. Nothing to do."""
    DATABASE_NOT_IN_USE = "database no longer in use"
    """Of this node's reads, only those that it makes as leader had failed. It no longer leads, so it stops retrying;
    whether the database answers is not known. Nothing to do.
    """
    CACHE_TOO_SMALL = "cache too small"
    """The cache cannot hold all monitors, so an outage of the database would affect the rest. To do: raise
    `PRODUCER_CACHE_MB` to `needed_mb`.
    """

    # Unexpected errors
    LOOP_FAILED = "loop failed, restarting"
    """A part of the producer failed and is restarted. To do: report it with the traceback."""
    LEADER_TASK_FAILED = "leader task failed, restarting"
    """A task of the leader failed and is restarted. To do: report it with the traceback."""
    BATCH_FAILED = "batch failed, reading one by one"
    """A batch could not be read, so each of its monitors is read alone. To do: report it with the traceback."""
    MONITOR_FAILED = "monitor skipped on error"
    """A monitor could not be processed; it is skipped as invalid. To do: report it with the traceback."""
    ROW_FAILED = "row skipped on error"
    """A row could not be understood; its monitor is skipped as invalid. To do: report it with the traceback."""
    EVENT_FAILED = "event dropped on error"
    """A message could not be processed; a sweep finds its change. To do: report it with the traceback."""
    EXCEPTION_IGNORED = "exception ignored"
    """An exception in a destructor or callback that no caller could catch (on standard error). To do: report it with
    the traceback.
    """

    # HTTP
    HTTP_STARTED = "http server started"
    """Probes and metrics are served at `address`. Nothing to do."""
    HTTP_NOT_STARTED = "http server not started"
    """`PRODUCER_HTTP_PORT` cannot be opened; checks go on, and it is tried again every 5 s. To do: fix what `reason`
    says.
    """

    ACTION_DONE = "action done"
    """A client with the token has changed something over HTTP (`action`, `what`). Nothing to do."""
    ACTION_REFUSED = "action refused"
    """A client wanted to change something over HTTP, and was refused (`status`: the HTTP status). Of several requests
    in a row that come too fast, only the first is logged. To do: if it recurs, find out who it is.
    """

    # Traces
    TRACES_STARTED = "trace export started"
    """Each batch is traced; the collector is at `address`. Nothing to do."""
    TRACES_NOT_STARTED = "trace export not started"
    """The variables of OpenTelemetry name a collector, but no traces are sent; checks go on. To do: fix what `reason`
    says, or remove the variables.
    """
    TRACES_FAILED = "trace export failed"
    """The collector accepts no traces, so they are lost; checks go on, and new traces are sent. To do: fix what
    `reason` says.
    """
    TRACES_RECOVERED = "trace export recovered"
    """The collector accepts traces again. Nothing to do."""

    # The log itself
    LOG_LINES_DROPPED = "log lines dropped"
    """Nobody read the log, so `count` lines are missing before this one. To do: check the log collector."""
    LIBRARY_WARNING = "library warning"
    """A library that the producer uses logged a warning. To do: report it if it recurs."""
    LIBRARY_ERROR = "library error"
    """A library that the producer uses logged an error. To do: report it if it recurs."""
