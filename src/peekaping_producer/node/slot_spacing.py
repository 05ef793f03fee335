"""Whether slots are spread, or aligned to a Go producer's (PRODUCER_SCHEDULE)."""

from peekaping_producer.config.settings import ScheduleMode
from peekaping_producer.model.cadence import Spacing
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.log import Logger

_FIXED = {ScheduleMode.SPREAD: Spacing.SPREAD, ScheduleMode.ALIGNED: Spacing.ALIGNED}


class SpacingChoice:
    """The current spacing. `auto` spreads, but aligns while any node has noticed a Go producer recently."""

    def __init__(self, mode: ScheduleMode, log: Logger) -> None:
        """Begin as if there were no Go producer."""
        self._mode = mode
        self._log = log
        self._go_seen = False
        self._noticed_until_s = 0.0

    @property
    def now(self) -> Spacing:
        """The spacing of the slots that are chosen now."""
        return spacing_for(self._mode, go_seen=self._go_seen)

    def notice(self, until_s: float) -> None:
        """Align: a batch shows a Go producer's slots. Until then Redis has it noted; earlier claims do not know it."""
        self._noticed_until_s = until_s
        self._change(go_seen=True)

    def update(self, *, go_seen: bool, at_s: float) -> None:
        """Note whether a claim found that any node has noticed a Go producer, and when, on the monotonic clock."""
        self._change(go_seen=go_seen or at_s < self._noticed_until_s)

    def _change(self, *, go_seen: bool) -> None:
        """Log a change, once."""
        if go_seen == self._go_seen:
            return
        self._go_seen = go_seen
        if self._mode is not ScheduleMode.AUTO:
            return
        if go_seen:
            self._log.info(LogEvent.GO_PRODUCER_DETECTED)
        else:
            self._log.info(LogEvent.GO_PRODUCER_GONE)


def spacing_for(mode: ScheduleMode, *, go_seen: bool) -> Spacing:
    """Return the spacing by the setting, and by whether a Go producer has been noticed recently."""
    return _FIXED.get(mode) or (Spacing.ALIGNED if go_seen else Spacing.SPREAD)
