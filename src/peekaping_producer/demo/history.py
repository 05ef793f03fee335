"""The runs of the demo's monitors, gathered from the ledgers as they grow."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from peekaping_producer.demo.judgement import Incidents, Run, judge, percentile
from peekaping_producer.demo.ledger import Entry, Finished, Outcome, Taken
from peekaping_producer.demo.sample import Sample
from peekaping_producer.model.cadence import cadence

_RESULTS_KEPT = 20
"""Results of each monitor that are kept for the table."""

End = Outcome | Literal["killed", "unfinished"]
"""How a check ended: its outcome, `killed` if its worker died during it, `unfinished` if it still runs."""


class Totals(Struct, frozen=True):
    """The judgement of all monitors together."""

    runs: int
    missed: int
    doubled: int
    skipped: int
    lateness_p50_ms: int
    lateness_p99_ms: int


class _Record:
    """One monitor's runs."""

    __slots__ = ("busy_until", "ends", "results", "taken")

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.ends: list[End] = []
        """Of each of `taken`."""
        self.busy_until: dict[int, int] = {}
        self.results: deque[Finished] = deque(maxlen=_RESULTS_KEPT)


class History:
    """Every run of every monitor."""

    def __init__(self, monitors: Sequence[Sample]) -> None:
        """Begin without runs."""
        self._monitors = monitors
        self._records = {str(monitor.id): _Record() for monitor in monitors}
        self.ends: Counter[End] = Counter()
        """How many checks ended in which way; together they are all checks."""

    def add(self, entries: Iterable[Entry]) -> None:
        """Add entries of a ledger. A task that was withdrawn before it was taken (`scheduled_at` 1970) is not a run."""
        for entry in entries:
            record = self._records.get(entry.monitor_id)
            if record is None or entry.scheduled_ms == 0:
                continue
            if isinstance(entry, Taken):
                record.taken.append(entry.scheduled_ms)
                record.ends.append("unfinished")
                self.ends["unfinished"] += 1
            else:
                record.busy_until[entry.scheduled_ms] = entry.finished_ms
                record.results.append(entry)
                self._ended(record, entry.scheduled_ms, entry.outcome)

    def interrupted(self, monitor_id: str, scheduled_ms: int, taken_ms: int, until_ms: int) -> None:
        """Note that the worker of a task died: it counts as taken, and as running until `until_ms`."""
        record = self._records.get(monitor_id)
        if record is None:
            return
        if scheduled_ms not in record.taken:
            self.add([Taken(monitor_id, scheduled_ms, taken_ms)])
        record.busy_until[scheduled_ms] = until_ms
        self._ended(record, scheduled_ms, "killed")

    def worker_died(self, at_ms: int) -> None:
        """Note its unfinished checks as killed at `at_ms`, except those that `interrupted` has noted."""
        for record in self._records.values():
            for scheduled_ms in [at for at, end in zip(record.taken, record.ends, strict=True) if end == "unfinished"]:
                record.busy_until.setdefault(scheduled_ms, at_ms)
                self._ended(record, scheduled_ms, "killed")

    def has_taken(self, monitor_id: str, scheduled_ms: int) -> bool:
        """Return whether a worker has taken this task; True for an unknown monitor."""
        record = self._records.get(monitor_id)
        return record is None or scheduled_ms in record.taken

    @property
    def runs(self) -> int:
        """How many checks a worker has taken."""
        return self.ends.total()

    def _ended(self, record: _Record, scheduled_ms: int, end: End) -> None:
        for place in reversed(range(len(record.taken))):
            if record.taken[place] == scheduled_ms and record.ends[place] == "unfinished":
                record.ends[place] = end
                self.ends["unfinished"] -= 1
                self.ends[end] += 1
                return

    def last_run_ms(self, monitor_id: str) -> int | None:
        """Return `scheduled_at` of the newest run."""
        taken = self._records[monitor_id].taken
        return taken[-1] if taken else None

    def results(self, monitor_id: str) -> Sequence[Finished]:
        """Return the newest results, the newest last."""
        return self._records[monitor_id].results

    def came_back(self, monitor_ids: Iterable[str], after_ms: int) -> int:
        """Return how many of them have run for a slot after the instant."""
        return sum((self.last_run_ms(monitor_id) or 0) > after_ms for monitor_id in monitor_ids)

    def totals(self, began_ms: int, now_ms: int, incidents: Incidents) -> Totals:
        """Judge every monitor, as of `now_ms`."""
        missed = doubled = skipped = 0
        lateness: list[int] = []
        for monitor in self._monitors:
            record = self._records[monitor.id]
            runs = [
                Run(at_ms, record.busy_until.get(at_ms, now_ms), killed=end == "killed")
                for at_ms, end in zip(record.taken, record.ends, strict=True)
            ]
            judgement = judge(cadence(monitor.id, monitor.interval_s), runs, began_ms, now_ms, incidents)
            missed += judgement.missed
            doubled += judgement.doubled
            skipped += judgement.skipped
            lateness += judgement.lateness_ms
        lateness.sort()
        return Totals(len(lateness), missed, doubled, skipped, percentile(lateness, 50), percentile(lateness, 99))
