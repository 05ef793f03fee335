"""Cron expressions as the Go services read them, and when one last fired (docs/protocol.md, section 4).

cronsim does the calendar. Its dialect differs in ranges, `?`, `*/2`, weekday 7 and clock changes, so `parse` checks
and expands every field itself, and `last_firing` gives cronsim wall times without a zone.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim
from msgspec import Struct

from peekaping_producer.errors import CorruptRecord

_LONGEST = 1024
"""Characters; an expression with every value of every field spelled out is less than half as long."""

_REACH = timedelta(days=3660)
"""The longest gap is eight years (29 February around 2100), plus a firing that a clock change skips."""

_ZONE = re.compile(r"(?:CRON_)?TZ=([^ ]*)(?: (.*))?", re.DOTALL)
_NUMBER = re.compile(r"\+?[0-9]{1,9}")
_LONGEST_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class _Field(Struct, frozen=True):
    """One of the five fields: what it may hold."""

    name: str
    lowest: int
    highest: int
    words: tuple[str, ...] = ()
    """The names of the values from `lowest` on."""


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day of month", 1, 31)
_MONTH = _Field("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"))
_WEEKDAY = _Field("weekday", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
_FIELDS = (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)


class Cron(Struct, frozen=True):
    """A parsed expression."""

    fields: str
    """Five fields of plain numbers, or `*` where nothing is restricted."""
    zone: ZoneInfo | None
    """From a `TZ=` or `CRON_TZ=` prefix; None for the zone of the maintenance."""


def parse(text: str) -> Cron:
    """Parse an expression. Raises CorruptRecord if it is invalid, or names no day that exists (31 February)."""
    if len(text) > _LONGEST:
        raise CorruptRecord(f"cron has {len(text)} characters, more than {_LONGEST}")
    zone, expression = _split_zone(text)
    parts = expression.split()
    if len(parts) != len(_FIELDS):
        raise CorruptRecord(f"cron has {len(parts)} fields, not {len(_FIELDS)}: {_shown(text)}")
    minute, hour, day, month, weekday = (_expand(part, field) for part, field in zip(parts, _FIELDS, strict=True))
    if day and not weekday and min(day) > max(_LONGEST_MONTH[m - 1] for m in month or range(1, 13)):
        raise CorruptRecord(f"cron names no day that exists: {_shown(text)}")
    return Cron(" ".join(_written(values) for values in (minute, hour, day, month, weekday)), zone)


def last_firing(cron: Cron, zone: ZoneInfo, now: datetime) -> datetime | None:
    """Return the last firing ≤ `now`, in UTC; None if there was none in ten years.

    It fires at each instant whose wall time matches: never if a clock change skips that time, twice if it occurs
    twice. `now` is aware, of 1972 or later: since then all offsets are whole minutes, and so are firings.
    """
    return _last_firing(cron.fields, cron.zone or zone, now.replace(second=0, microsecond=0))


@lru_cache(maxsize=4096)
def _last_firing(fields: str, zone: ZoneInfo, minute: datetime) -> datetime | None:
    local = minute.astimezone(zone)
    wall = local.replace(tzinfo=None)
    firing = _walk_back(fields, zone, wall, minute)
    if local.fold:  # the second pass of a repeated hour: later wall times have already occurred once
        ahead = _walk_back(fields, zone, wall + _repeated(local), minute)
        return max((each for each in (firing, ahead) if each), default=None)
    return firing


def _walk_back(fields: str, zone: ZoneInfo, wall: datetime, latest: datetime) -> datetime | None:
    """Return the firing ≤ `latest` of the last matching wall time ≤ `wall` that has one."""
    for candidate in CronSim(fields, wall.replace(fold=0) + timedelta(minutes=1), reverse=True):
        if candidate < wall - _REACH:
            break
        for fold in (1, 0):
            firing = candidate.replace(tzinfo=zone, fold=fold).astimezone(UTC)
            if firing <= latest and firing.astimezone(zone).replace(tzinfo=None) == candidate:
                return firing
    return None


def _repeated(local: datetime) -> timedelta:
    """Return by how much the clock was set back, at a wall time that occurs twice."""
    first, second = local.replace(fold=0).utcoffset(), local.replace(fold=1).utcoffset()
    return (first or timedelta()) - (second or timedelta())


def _split_zone(text: str) -> tuple[ZoneInfo | None, str]:
    found = _ZONE.fullmatch(text)
    if found is None:
        return None, text
    name, expression = found.groups()
    if expression is None:
        raise CorruptRecord(f"cron is a zone without an expression: {_shown(text)}")
    try:
        return ZoneInfo(name or "UTC"), expression
    except (KeyError, ValueError, OSError) as error:
        raise CorruptRecord(f"cron names an unknown zone: {_shown(name)}") from error


def _expand(part: str, field: _Field) -> frozenset[int] | None:
    """Return the values that a field allows; None for all: an item is `*` or `?`, with no step above 1."""
    values: set[int] = set()
    restricted = True
    for item in filter(None, part.split(",")):
        span, slash, step_text = item.partition("/")
        step = _number(step_text, field) if slash else 1
        if step == 0:
            raise CorruptRecord(f"cron: the step of {field.name} is 0")
        first, last = _span(span, field, open_ended=bool(slash))
        values.update(range(first, last + 1, step))
        restricted = restricted and not (span in {"*", "?"} and step == 1)
    if not values:
        raise CorruptRecord(f"cron: {field.name} is empty")
    return frozenset(values) if restricted else None


def _span(span: str, field: _Field, *, open_ended: bool) -> tuple[int, int]:
    """Return the first and last value of `*`, `N` or `N-M`; with a step, `N` means from N on."""
    if span in {"*", "?"}:
        return field.lowest, field.highest
    first_text, hyphen, last_text = span.partition("-")
    first = _value(first_text, field)
    last = _value(last_text, field) if hyphen else field.highest if open_ended else first
    if not field.lowest <= first <= last <= field.highest:
        raise CorruptRecord(f"cron: {field.name} {_shown(span)} is not a range within {field.lowest}-{field.highest}")
    return first, last


def _value(text: str, field: _Field) -> int:
    word = text.lower()
    return field.lowest + field.words.index(word) if word in field.words else _number(text, field)


def _number(text: str, field: _Field) -> int:
    if not _NUMBER.fullmatch(text):
        raise CorruptRecord(f"cron: {field.name} can't be {_shown(text)}")
    return int(text)


def _written(values: frozenset[int] | None) -> str:
    return "*" if values is None else ",".join(map(str, sorted(values)))


def _shown(text: str) -> str:
    return repr(text[:60])
