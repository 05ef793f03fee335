"""Records set aside, told once each: a broken row met every minute is one line, not one a minute."""

from peekaping_producer.observe.log import Logger

MOST_REMEMBERED = 10_000
MOST_SHOWN = 5


class Notices:
    """Remembers which problems of which records were told."""

    def __init__(self, log: Logger, event: str) -> None:
        """Tell problems as lines named `event`."""
        self._log = log
        self._event = event
        self._told: dict[str, str] = {}

    def tell(self, problems: dict[str, str]) -> None:
        """Write one line for those of `problems` (id → reason) that are new or have a new reason."""
        new = {id_: reason for id_, reason in problems.items() if self._told.get(id_) != reason}
        if not new:
            return
        if len(self._told) + len(new) > MOST_REMEMBERED:
            self._told.clear()
        self._told.update(new)
        shown = dict(list(new.items())[:MOST_SHOWN])
        self._log.warning(self._event, count=len(new), reasons={ascii(id_)[1:-1]: why for id_, why in shown.items()})
