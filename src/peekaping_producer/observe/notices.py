"""Problems of records, each logged once: a broken row that is read every minute is one line, not one a minute."""

from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.log import Logger

MOST_REMEMBERED = 10_000
MOST_LISTED = 5


class Notices:
    """Remembers which problems of which records were logged."""

    def __init__(self, log: Logger, event: LogEvent) -> None:
        """Log problems as warnings named `event`."""
        self._log = log
        self._event = event
        self._logged: dict[str, str] = {}

    def report(self, problems: dict[str, str]) -> None:
        """Log one line for those of `problems` (id → reason) that are new or have a new reason."""
        new = {id_: reason for id_, reason in problems.items() if self._logged.get(id_) != reason}
        if not new:
            return
        if len(self._logged) + len(new) > MOST_REMEMBERED:
            self._logged.clear()
        self._logged.update(new)
        listed = dict(list(new.items())[:MOST_LISTED])
        self._log.warning(self._event, count=len(new), reasons={ascii(id_)[1:-1]: why for id_, why in listed.items()})
