"""Every duration and size of the loops, in one frozen value. Tests shorten them; they are not settings."""

from msgspec import Struct


class Timing(Struct, frozen=True):
    """The defaults, with the measurements behind them."""

    batch: int = 200
    """Monitors that a claim takes at most: 500 gain 7 % and block Redis for 5 ms."""
    lease_ms: int = 5_000
    """How long a claim lasts. If a node dies, its claimed monitors are late by this much."""
    far_lease_ms: int = 60_000
    """A lease further ahead than this belongs to no node: a Go node's lasts 10 s."""
    claim_wait_s: float = 1.0
    """The longest wait between two claims of an idle node."""
    claim_spacing_least_s: float = 0.02
    """The shortest wait after a claim that was not full: monitors spread evenly are claimed in batches."""
    claim_spacing_most_s: float = 0.05
    """The longest such wait. A claim of few monitors costs as much as one of many: 10,000 monitors that are
    checked every 60 s take half as much of a core as with the shortest."""
    worthwhile_batch: int = 24
    """Monitors that a claim should find, if neither limit of the wait prevents it."""
    release_ms: int = 250
    """The delay of a monitor that was claimed just before the database became unavailable, and is not in the cache."""
    yield_ms: int = 1_000
    """While another node has a healthy database, a node that serves from its cache claims what is overdue by this."""
    peek_page: int = 1_000
    """Due monitors that such a node reads at a time, to find those in its cache."""
    peek_again_s: float = 5.0
    """How often it reads again what it has passed over: expired claims come back there."""
    peek_again_page_s: float = 0.25
    """The time between two pages of that, which limits the work however many monitors there are."""
    cache_watch_s: float = 5.0
    """How often a cache that is filling up is compared with the number of monitors."""
    resign_after_s: float = 10.0
    """A leader whose reads have all failed for this long resigns if another node has a healthy database."""
    postpone_ms: int = 1_000
    """The delay of a monitor whose task must be searched for in a very long list, which is rationed."""
    reclaim_every_s: float = 1.0
    reclaim_limit: int = 1_000
    term_ms: int = 4_000
    """How long leadership lasts without an extension: a dead leader is replaced within this."""
    election_every_s: float = 1.0
    """How often a leader extends its term, and how often every other node tries to take leadership."""
    sweep_every_s: float = 30.0
    sweep_page: int = 1_000
    changes_every_s: float = 5.0
    changes_overlap_s: float = 10.0
    """A row can become visible this long after its `updated_at`."""
    share: int = 20
    """Sweeps, and likewise polls for changes, take at most one part in this many of the leader's time. A single slow
    poll does not count."""
    scan_deadline_s: float = 30.0
    """For one read of a whole table, or of a page of it: a million rows take seconds, on a busy machine longer."""
    reread_after_s: tuple[float, ...] = (2.0, 7.0)
    """How long after an event its monitor is read again: an event can come before its commit."""
    tombstone_ms: int = 3_600_000
    go_seen_ms: int = 120_000
    """How long after it was noticed a Go producer counts as running beside us."""
    figures_kept_s: float = 1.0
    """How long the same metrics are served to all who ask; then they are made again."""
    silence_s: float = 15.0
    """A subscription that was silent for this long is pinged."""
    step_open_ms: int = 60_000
    """How long a step of Redis' clock counts if no sweep corrects the schedule; then all that is overdue is claimed."""
    heartbeat_every_s: float = 3.0
    """How often a node writes that it is alive; after three times this it counts as gone."""
    gone_kept_s: float = 3_600.0
    """How long a node that died is shown as gone."""
    queue_every_s: float = 15.0
    """How often the leader checks whether workers take from the queue."""
    invalid_every_s: float = 5.0
    """How often the leader checks whether the monitors that are skipped as invalid have been fixed."""
    summary_every_s: float = 60.0
    often_logged_every_s: float = 1.0
    """What happens often is added up over this time and logged in one line."""
    redis_timeout_s: float = 2.0
    """A Redis command that takes longer counts as unanswered."""
    redis_retry_cap_s: float = 1.0
    """The longest wait between two tries while Redis is unavailable: it may move, and checks wait for it."""
    keys_every_s: float = 20.0
    """How often the leader checks the types of all keys; if a script fails because of one, they are checked at once."""
    warn_after_s: float = 1.0
    """How long after its start a node logs what `check` would warn about, so that its first claims come first."""
    remind_every_s: float = 300.0
    """How often an outage that goes on is logged again."""
    start_remind_every_s: float = 60.0
    """How often a node that waits at its start logs what for."""
    turns_reported_every_s: float = 1.0
    """How often a node reports that its loops turn, to the service manager and in PRODUCER_ALIVE_FILE."""
    alive_within_s: float = 10.0
    """A node whose loops have not turned for this long is not alive; outages delay a turn by several seconds."""
    retry_first_s: float = 0.1
    retry_cap_s: float = 5.0
    probe_cap_s: float = 2.0
    """The longest wait between two probes while the database is unavailable: edits should count soon after it."""

    def claim_spacing_s(self, found: float, within_s: float) -> float:
        """Return the shortest wait after a claim that was not full, and found what became due within `within_s`."""
        if found * self.claim_spacing_most_s <= self.worthwhile_batch * within_s:
            return self.claim_spacing_most_s
        return max(self.claim_spacing_least_s, self.worthwhile_batch * within_s / found)

    @property
    def alive_ms(self) -> int:
        """How long a node counts as alive without a heartbeat."""
        return int(self.heartbeat_every_s * 3000)

    @property
    def read_deadline_s(self) -> float:
        """The deadline of all reads of a batch: half the lease, so that its settle is in time."""
        return self.lease_ms / 2000
