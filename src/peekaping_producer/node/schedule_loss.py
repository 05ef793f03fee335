"""Whether the schedule was lost. Logged once when that is noticed, and once when a sweep has rebuilt it."""

import time
from collections.abc import Callable

from msgspec import Struct

from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.log import Logger


class _Loss(Struct):
    reason: str
    since_s: float
    logged: bool = False


class ScheduleLoss:
    """A loss is certain if Redis has other data than before, and suspected if many monitors are missing at once.

    Both lead to a sweep. A suspected loss is logged only if the sweep finds monitors missing.
    """

    def __init__(self, log: Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with a complete schedule."""
        self._log = log
        self._clock = clock
        self._loss: _Loss | None = None

    def confirm(self, reason: str) -> None:
        """Note that Redis has lost data; the sweep that follows rebuilds the schedule."""
        self._loss = _Loss(reason, self._clock())
        self._warn(self._loss)

    def suspect(self, reason: str) -> None:
        """Note that a part of the schedule may be missing."""
        if self._loss is None:
            self._loss = _Loss(reason, self._clock())

    def swept(self, began_s: float, added: int) -> None:
        """Note how many monitors a sweep has found missing so far."""
        loss = self._loss
        if loss and added and began_s >= loss.since_s:
            self._warn(loss)

    def sweep_ended(self, began_s: float, monitors: int) -> None:
        """Note that a sweep has scheduled all monitors. A sweep that began before the loss does not count."""
        loss = self._loss
        if loss is None or began_s < loss.since_s:
            return
        if loss.logged:
            seconds = round(self._clock() - loss.since_s, 1)
            self._log.info(LogEvent.SCHEDULE_REBUILT, monitors=monitors, seconds=seconds)
        self._loss = None

    def forget(self) -> None:
        """Forget the loss: another node leads, and sweeps."""
        self._loss = None

    def _warn(self, loss: _Loss) -> None:
        if not loss.logged:
            self._log.warning(LogEvent.SCHEDULE_LOST, reason=loss.reason)
            loss.logged = True
