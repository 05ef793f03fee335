"""What the demo knows of its monitors' runs, gathered from the ledgers as they grow."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from msgspec import Struct

from peekaping_producer.cadence import cadence
from peekaping_producer.demo.judgement import Incidents, Run, judge, percentile
from peekaping_producer.demo.ledger import Entry, Finished, Taken
from peekaping_producer.demo.sample import Sample

_SHOWN = 20
"""Results kept of each monitor for the table."""


class Totals(Struct, frozen=True):
    """The judgement of all monitors together."""

    runs: int
    missed: int
    doubled: int
    skipped: int
    lateness_p50_ms: int
    lateness_p99_ms: int


class Columns(Struct, frozen=True):
    """How the runs ended. Each is counted once, so that they add up to all."""

    up: int
    down: int
    pending: int
    """Down, and to be tried again before it counts."""
    maintenance: int
    dropped: int
    """Taken too late to be worth a result."""
    failed: int
    """Ended by an error of the worker's, without a result."""
    killed: int
    """Their worker was killed in the middle of them."""
    unfinished: int
    """Still running when the demo ended."""


_COLUMNS = tuple(name for name in Columns.__struct_fields__ if name != "unfinished")


class _Page:
    """One monitor's runs."""

    __slots__ = ("busy", "killed", "results", "running", "taken")

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.running: Counter[int] = Counter()
        self.killed: set[int] = set()
        self.busy: dict[int, int] = {}
        self.results: deque[Finished] = deque(maxlen=_SHOWN)


class Book:
    """Every run of every monitor."""

    def __init__(self, monitors: Sequence[Sample]) -> None:
        """Open a page for each monitor."""
        self._monitors = monitors
        self._pages = {str(monitor.id): _Page() for monitor in monitors}
        self.runs = 0
        self._outcomes: Counter[str] = Counter()

    @property
    def columns(self) -> Columns:
        """How all runs ended so far: each is in one column."""
        unfinished = sum(page.running.total() for page in self._pages.values())
        return Columns(**{name: self._outcomes[name] for name in _COLUMNS}, unfinished=unfinished)

    def add(self, entries: Iterable[Entry]) -> None:
        """Enter what a ledger says. A task that was taken back before it was taken (1970) is no run."""
        for entry in entries:
            page = self._pages.get(entry.monitor_id)
            if page is None or entry.scheduled_ms == 0:
                continue
            if isinstance(entry, Taken):
                page.taken.append(entry.scheduled_ms)
                page.running[entry.scheduled_ms] += 1
                self.runs += 1
            else:
                page.running[entry.scheduled_ms] -= 1
                page.busy[entry.scheduled_ms] = entry.finished_ms
                page.results.append(entry)
                self._outcomes[entry.outcome] += 1

    def abandon(self, monitor_id: str, scheduled_ms: int, taken_ms: int, until_ms: int) -> None:
        """Enter that the worker of a task died: it counts as seen, and as running until `until_ms`."""
        page = self._pages.get(monitor_id)
        if page is None:
            return
        if scheduled_ms not in page.taken:
            self.add([Taken(monitor_id, scheduled_ms, taken_ms)])
        page.busy[scheduled_ms] = until_ms
        page.killed.add(scheduled_ms)

    def worker_died(self) -> None:
        """Enter that whatever is unfinished will not be finished: one worker takes all tasks."""
        for page in self._pages.values():
            self._outcomes["killed"] += page.running.total()
            page.running.clear()

    def last_run_ms(self, monitor_id: str) -> int | None:
        """Return `scheduled_at` of the newest run."""
        taken = self._pages[monitor_id].taken
        return taken[-1] if taken else None

    def results(self, monitor_id: str) -> Sequence[Finished]:
        """Return the newest results, the newest last."""
        return self._pages[monitor_id].results

    def came_back(self, monitor_ids: Iterable[str], after_ms: int) -> int:
        """Return how many of them have run for a slot after the instant."""
        return sum((self.last_run_ms(monitor_id) or 0) > after_ms for monitor_id in monitor_ids)

    def totals(self, began_ms: int, now_ms: int, incidents: Incidents) -> Totals:
        """Judge every monitor, as of `now_ms`."""
        missed = doubled = skipped = 0
        lateness: list[int] = []
        for monitor in self._monitors:
            page = self._pages[monitor.id]
            runs = [Run(at_ms, page.busy.get(at_ms, now_ms), at_ms in page.killed) for at_ms in page.taken]
            judgement = judge(cadence(monitor.id, monitor.interval_s), runs, began_ms, now_ms, incidents)
            missed += judgement.missed
            doubled += judgement.doubled
            skipped += judgement.skipped
            lateness += judgement.lateness_ms
        lateness.sort()
        return Totals(len(lateness), missed, doubled, skipped, percentile(lateness, 50), percentile(lateness, 99))
