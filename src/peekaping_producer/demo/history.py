"""What the demo knows of its monitors' runs, gathered from the ledgers as they grow."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from peekaping_producer.demo.judgement import Incidents, Run, judge, percentile
from peekaping_producer.demo.ledger import Entry, Finished, Outcome, Taken
from peekaping_producer.demo.sample import Sample
from peekaping_producer.model.cadence import cadence

_SHOWN = 20
"""Results kept of each monitor for the table."""

Fate = Outcome | Literal["killed", "unfinished"]
"""What became of a check: its outcome, `killed` if its worker died midway, `unfinished` if it still runs."""


class Totals(Struct, frozen=True):
    """The judgement of all monitors together."""

    runs: int
    missed: int
    doubled: int
    skipped: int
    lateness_p50_ms: int
    lateness_p99_ms: int


class _Page:
    """One monitor's runs."""

    __slots__ = ("busy", "fates", "results", "taken")

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.fates: list[Fate] = []
        """Of each of `taken`."""
        self.busy: dict[int, int] = {}
        self.results: deque[Finished] = deque(maxlen=_SHOWN)


class Book:
    """Every run of every monitor."""

    def __init__(self, monitors: Sequence[Sample]) -> None:
        """Open a page for each monitor."""
        self._monitors = monitors
        self._pages = {str(monitor.id): _Page() for monitor in monitors}
        self.fates: Counter[Fate] = Counter()
        """How many checks came to which end; together they are all checks."""

    def add(self, entries: Iterable[Entry]) -> None:
        """Enter what a ledger says. A task that was taken back before it was taken (1970) is no run."""
        for entry in entries:
            page = self._pages.get(entry.monitor_id)
            if page is None or entry.scheduled_ms == 0:
                continue
            if isinstance(entry, Taken):
                page.taken.append(entry.scheduled_ms)
                page.fates.append("unfinished")
                self.fates["unfinished"] += 1
            else:
                page.busy[entry.scheduled_ms] = entry.finished_ms
                page.results.append(entry)
                self._ended(page, entry.scheduled_ms, entry.outcome)

    def abandon(self, monitor_id: str, scheduled_ms: int, taken_ms: int, until_ms: int) -> None:
        """Enter that the worker of a task died: it counts as seen, and as running until `until_ms`."""
        page = self._pages.get(monitor_id)
        if page is None:
            return
        if scheduled_ms not in page.taken:
            self.add([Taken(monitor_id, scheduled_ms, taken_ms)])
        page.busy[scheduled_ms] = until_ms
        self._ended(page, scheduled_ms, "killed")

    def worker_died(self, at_ms: int) -> None:
        """Enter what it had taken and not finished as killed. Those of them that `abandon` knows, it knows better."""
        for page in self._pages.values():
            for scheduled_ms in [at for at, fate in zip(page.taken, page.fates, strict=True) if fate == "unfinished"]:
                page.busy.setdefault(scheduled_ms, at_ms)
                self._ended(page, scheduled_ms, "killed")

    def has_taken(self, monitor_id: str, scheduled_ms: int) -> bool:
        """Tell whether a worker has seen this task, or nobody here knows its monitor."""
        page = self._pages.get(monitor_id)
        return page is None or scheduled_ms in page.taken

    @property
    def runs(self) -> int:
        """How many checks a worker has seen."""
        return self.fates.total()

    def _ended(self, page: _Page, scheduled_ms: int, fate: Fate) -> None:
        for place in reversed(range(len(page.taken))):
            if page.taken[place] == scheduled_ms and page.fates[place] == "unfinished":
                page.fates[place] = fate
                self.fates["unfinished"] -= 1
                self.fates[fate] += 1
                return

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
            runs = [
                Run(at_ms, page.busy.get(at_ms, now_ms), killed=fate == "killed")
                for at_ms, fate in zip(page.taken, page.fates, strict=True)
            ]
            judgement = judge(cadence(monitor.id, monitor.interval_s), runs, began_ms, now_ms, incidents)
            missed += judgement.missed
            doubled += judgement.doubled
            skipped += judgement.skipped
            lateness += judgement.lateness_ms
        lateness.sort()
        return Totals(len(lateness), missed, doubled, skipped, percentile(lateness, 50), percentile(lateness, 99))
