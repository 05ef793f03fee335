"""Whether a maintenance is in its window at an instant (docs/protocol.md, section 4). Pure: values in, verdict out.

A maintenance is parsed once; after that, each call costs about a microsecond.
"""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from msgspec import Struct

from peekaping_producer.errors import CorruptRecord
from peekaping_producer.model import cron
from peekaping_producer.model.monitor import Maintenance

_SAME_AS_SERVER = "SAME_AS_SERVER"
_UTC = ZoneInfo("UTC")
_DAY = timedelta(days=1)
_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)
_DATE_TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{1,2}):([0-9]{2})")
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})")
_STRATEGIES = frozenset(
    {"manual", "single", "recurring-interval", "recurring-weekday", "recurring-day-of-month", "cron"}
)
_LONGEST_MIN = timedelta.max // timedelta(minutes=1)


class Broken(Struct, frozen=True):
    """A maintenance with a field that is missing or invalid. It is in no window."""

    maintenance_id: str
    reason: str


class Verdict(Struct, frozen=True):
    """The result for the maintenances of one monitor."""

    under_maintenance: bool
    """Any active maintenance is in its window."""
    broken: tuple[Broken, ...] = ()
    """The active ones that are broken, for the caller to log once each."""


_NO = Verdict(under_maintenance=False)
_YES = Verdict(under_maintenance=True)


def under_maintenance(maintenances: Iterable[Maintenance], now: datetime, server_zone: ZoneInfo) -> Verdict:
    """Return whether a monitor is under maintenance at `now` (aware, UTC).

    Inactive maintenances do not count; a broken one has no effect on the others. `server_zone` is the zone that
    `SAME_AS_SERVER` means. Never raises.
    """
    held = False
    broken: list[Broken] = []
    for maintenance in maintenances:
        if maintenance.active:
            window = _window(maintenance, server_zone)
            if isinstance(window, Broken):
                broken.append(window)
            else:
                held = held or window.holds(now)
    if broken:
        return Verdict(held, tuple(broken))
    return _YES if held else _NO


@lru_cache(maxsize=1024)
def zone(name: str | None, server_zone: ZoneInfo) -> ZoneInfo:
    """Return the zone that a `timezone` column means; UTC for an empty or unknown one."""
    if name == _SAME_AS_SERVER:
        return server_zone
    try:
        return ZoneInfo(name) if name else _UTC
    except (KeyError, ValueError, OSError):  # unknown, no zone's name or file, a folder, too long a name
        return _UTC


class _Always(Struct, frozen=True):
    """Strategy `manual`."""

    def holds(self, now: datetime) -> bool:  # noqa: ARG002  (as the other windows)
        return True


class _Between(Struct, frozen=True):
    """Strategy `single`, and the bounds of all that recur. Both ends are exclusive."""

    start: datetime
    end: datetime

    def holds(self, now: datetime) -> bool:
        return self.start < now < self.end


class _EveryDays(Struct, frozen=True):
    """Strategy `recurring-interval`: a daily window on every n-th calendar day, counted from the first."""

    bounds: _Between
    first_day: date
    interval_days: int
    start: time
    end: time
    zone: ZoneInfo

    def holds(self, now: datetime) -> bool:
        if not self.bounds.holds(now):
            return False
        today = now.astimezone(self.zone).date()
        if self.end >= self.start:
            return self._began_on(today, today, now)
        return self._began_on(today, today + _DAY, now) or self._began_on(today - _DAY, today, now)

    def _began_on(self, day: date, end_day: date, now: datetime) -> bool:
        """Return whether `now` is in the window from `day` to `end_day`, if one begins on `day`."""
        days = (day - self.first_day).days
        if days < 0 or days % self.interval_days:
            return False
        start, end = datetime.combine(day, self.start), datetime.combine(end_day, self.end)
        return _between(start, end, self.zone).holds(now)


class _AfterFiring(Struct, frozen=True):
    """Strategies `cron`, `recurring-weekday`, `recurring-day-of-month`, and any unknown one that has a cron."""

    bounds: _Between
    cron: cron.Cron
    duration: timedelta
    zone: ZoneInfo

    def holds(self, now: datetime) -> bool:
        if not self.bounds.holds(now):
            return False
        firing = cron.last_firing(self.cron, self.zone, now)
        return firing is not None and now - firing < self.duration


_Window = _Always | _Between | _EveryDays | _AfterFiring


@lru_cache(maxsize=4096)
def _window(maintenance: Maintenance, server_zone: ZoneInfo) -> _Window | Broken:
    try:
        return _parse(maintenance, zone(maintenance.timezone, server_zone))
    except CorruptRecord as error:
        return Broken(maintenance.id, error.reason)


def _parse(maintenance: Maintenance, local: ZoneInfo) -> _Window:
    if maintenance.strategy == "manual":
        return _Always()
    if maintenance.strategy not in _STRATEGIES and not maintenance.cron:
        raise CorruptRecord(f"strategy {maintenance.strategy[:60]!r} is unknown")
    first = _date_time("start_date_time", maintenance.start_date_time)
    last = _date_time("end_date_time", maintenance.end_date_time)
    bounds = _between(first, last, local)
    if maintenance.strategy == "single":
        return bounds
    if maintenance.strategy == "recurring-interval":
        start = _time_of_day("start_time", maintenance.start_time)
        end = _time_of_day("end_time", maintenance.end_time)
        return _EveryDays(bounds, first.date(), _interval_days(maintenance.interval_day), start, end, local)
    return _AfterFiring(bounds, cron.parse(_present("cron", maintenance.cron)), _duration(maintenance.duration), local)


def _date_time(column: str, text: str | None) -> datetime:
    found = _DATE_TIME.fullmatch(_present(column, text))
    try:
        if found:
            year, month, day, hour, minute = map(int, found.groups())
            return datetime(year, month, day, hour, minute)  # noqa: DTZ001  (a wall clock; its zone comes later)
    except ValueError as error:
        raise CorruptRecord(f"{column} doesn't exist: {text!r}") from error
    raise CorruptRecord(f"{column} is not YYYY-MM-DDTHH:MM")


def _time_of_day(column: str, text: str | None) -> time:
    found = _TIME.fullmatch(_present(column, text))
    try:
        if found:
            hour, minute = map(int, found.groups())
            return time(hour, minute)
    except ValueError as error:
        raise CorruptRecord(f"{column} doesn't exist: {text!r}") from error
    raise CorruptRecord(f"{column} is not HH:MM")


def _interval_days(days: int | None) -> int:
    if days is None or days <= 0:
        raise CorruptRecord("interval_day is missing" if days is None else f"interval_day is {days}")
    return days


def _duration(minutes: int | None) -> timedelta:
    """Return the length of a window; one of 0 or less contains no instant."""
    if minutes is None:
        raise CorruptRecord("duration is missing")
    return timedelta(minutes=min(max(minutes, 0), _LONGEST_MIN))


def _present(column: str, text: str | None) -> str:
    if not text:
        raise CorruptRecord(f"{column} is missing")
    return text


@lru_cache(maxsize=4096)
def _between(first: datetime, last: datetime, local: ZoneInfo) -> _Between:
    """Return the window between two wall times; the longer one if a bound occurs twice.

    A bound that a clock change skips moves later, by as much as the clock does.
    """
    return _Between(_instant(first, local), max(_instant(last, local), _instant(last.replace(fold=1), local)))


def _instant(wall: datetime, local: ZoneInfo) -> datetime:
    try:
        return wall.replace(tzinfo=local).astimezone(UTC)
    except OverflowError:  # Within a day of what datetime can hold.
        return _FIRST if wall.year == 1 else _LAST
