"""Whether a node is alive: its loops turn. An outage of Redis or of the database does not change that."""

import time
from collections.abc import Callable


class Liveness:
    """Reports the turns of the claim loop; at the start, those of the wait for Redis and the database.

    A turn takes a few seconds at most, whatever is unavailable, so a node that reports none for longer is frozen.
    """

    def __init__(self, report_every_s: float) -> None:
        """Report turns at most this often, in seconds."""
        self._report_every_s = report_every_s
        self._report_again_s = 0.0
        self._reports: list[Callable[[], None]] = []

    def on_turn(self, report: Callable[[], None]) -> None:
        """Call `report` at the next turn and then every few turns; it must neither block nor raise."""
        self._reports.append(report)
        self._report_again_s = 0.0

    def turned(self) -> None:
        """Note that the loop has turned."""
        now_s = time.monotonic()
        if now_s >= self._report_again_s:
            self._report_again_s = now_s + self._report_every_s
            for report in self._reports:
                report()
