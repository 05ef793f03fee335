"""Every duration and size of the loops, in one frozen value: tests shorten them, nobody else needs to."""

from msgspec import Struct


class Timing(Struct, frozen=True):
    """The defaults, with the measurements behind them."""

    batch: int = 200
    """Monitors a claim takes at most: 500 gains 7 % and blocks Redis 5 ms."""
    lease_ms: int = 5_000
    """How long a claim lasts. A node that dies holding one delays its monitors by this much."""
    far_lease_ms: int = 60_000
    """A lease further ahead than this is nobody's: a Go node's lasts 10 s."""
    claim_wait_s: float = 1.0
    """The longest wait between two claims of an idle node."""
    claim_spacing_s: float = 0.02
    """The shortest wait after a claim that was not full, so that batches form when monitors are spread evenly."""
    release_ms: int = 250
    """A monitor that was claimed just before its database became unavailable, and that the cache does not hold, is due
    again after this."""
    yield_ms: int = 1_000
    """A node that serves from its cache leaves what has been due for less to nodes whose database is healthy."""
    peek_page: int = 1_000
    """Due monitors that such a node reads at a time, to find those that its cache holds."""
    peek_again_s: float = 5.0
    """And how often it reads again what it has passed over: a claim that expired may be among it."""
    peek_again_page_s: float = 0.25
    """The pages of that are so far apart: bounded work, however many there are."""
    cache_watch_s: float = 5.0
    """How often a cache that fills up is compared with the number of monitors."""
    resign_after_s: float = 10.0
    """A leader that has read nothing for so long, its reads failing, resigns to a node with a healthy database."""
    postpone_ms: int = 1_000
    """A task that must be searched for in a very long list, and was not this time, is due again after this."""
    reclaim_every_s: float = 1.0
    reclaim_limit: int = 1_000
    term_ms: int = 4_000
    """How long leadership lasts without an extension: a dead leader is replaced within this."""
    election_every_s: float = 1.0
    """How often a leader extends its term, and every other node looks whether it has ended."""
    sweep_every_s: float = 30.0
    sweep_page: int = 1_000
    changes_every_s: float = 5.0
    changes_overlap_s: float = 10.0
    """A row may become visible so long after the time it bears."""
    share: int = 20
    """A sweep, and a poll for changes, may take one part in so many of the leader's time, also when they fail."""
    scan_deadline_s: float = 30.0
    """For one read of a whole table, or of a page of it: a million rows take seconds, on a busy machine more."""
    reread_after_s: tuple[float, ...] = (2.0, 7.0)
    """After an event its monitor is read at once, and again so much later: an event can come before its commit."""
    tombstone_ms: int = 3_600_000
    go_seen_ms: int = 120_000
    """A Go producer counts as running beside us for so long after it was noticed."""
    silence_s: float = 15.0
    """A subscription that was silent for so long is asked whether it lives."""
    step_open_ms: int = 60_000
    """How long after a step of Redis' clock a sweep is waited for: then all that is overdue is claimed at once."""
    heartbeat_every_s: float = 3.0
    """How often a node says that it is alive; it counts as gone after three times that."""
    gone_kept_s: float = 3_600.0
    """How long a node that died is shown as gone."""
    queue_every_s: float = 15.0
    """How often the leader looks whether workers take from the queue."""
    invalid_every_s: float = 5.0
    """How often the leader checks whether the monitors that are skipped as invalid have been fixed."""
    summary_every_s: float = 60.0
    often_logged_every_s: float = 1.0
    """What happens often is added up over this before it becomes a line."""
    redis_timeout_s: float = 2.0
    """A Redis command that takes longer counts as unanswered."""
    redis_retry_cap_s: float = 1.0
    """The longest wait between two tries of a Redis that is unavailable: it may move, and checks wait for it."""
    keys_every_s: float = 20.0
    """How often the leader checks what all keys hold; where a script fails because of one, it is checked at once."""
    remind_every_s: float = 300.0
    """An outage that goes on is logged again after this."""
    start_remind_every_s: float = 60.0
    """How often a node that waits at its start says for what."""
    retry_first_s: float = 0.1
    retry_cap_s: float = 5.0
    probe_cap_s: float = 2.0
    """The longest wait between two probes of a database that is away: an edit should count soon after its end."""

    @property
    def alive_ms(self) -> int:
        """How long a node counts as alive without a word."""
        return int(self.heartbeat_every_s * 3000)

    @property
    def read_deadline_s(self) -> float:
        """All reads of a batch share half the lease: past it every settle would be lost."""
        return self.lease_ms / 2000
