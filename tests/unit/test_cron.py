"""The cron dialect, and the instant it last fired, clock changes included."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from peekaping_producer.errors import CorruptRecord
from peekaping_producer.model.cron import last_firing, parse

BERLIN = ZoneInfo("Europe/Berlin")
ZULU = ZoneInfo("UTC")


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("* * * * *", "* * * * *"),
        ("? * ? * ?", "* * * * *"),
        ("*/1 * * * *", "* * * * *"),
        ("  7\t07  *  * *  ", "7 7 * * *"),
        ("5/20 * * * *", "5,25,45 * * * *"),
        ("50-59/3 * * * *", "50,53,56,59 * * * *"),
        ("1,1,3-2/1,9 * * * *", None),
        ("1,,2, * * * *", "1,2 * * * *"),
        ("*/25 * * * *", "0,25,50 * * * *"),
        ("*/999 * * * *", "0 * * * *"),
        ("* * * * *,3", "* * * * *"),
        ("0 0 1-31 * 0-6", "0 0 " + ",".join(map(str, range(1, 32))) + " * 0,1,2,3,4,5,6"),
        ("0 0 * JAN,jul,Dec MON-Fri", "0 0 * 1,7,12 1,2,3,4,5"),
        ("0 0 * * sun", "0 0 * * 0"),
        ("0 0 29 2 *", "0 0 29 2 *"),
        ("0 0 31 2 1", "0 0 31 2 1"),
    ],
)
def test_fields_are_expanded(text: str, fields: str | None) -> None:
    if fields is None:
        with pytest.raises(CorruptRecord):
            parse(text)
    else:
        assert parse(text).fields == fields


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "* * * *",
        "* * * * * *",
        "@daily",
        "@every 1m",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 0 *",
        "* * * 13 *",
        "* * * * 7",
        "* * * * fri-mon",
        "* * * * monday",
        "fri * * * *",
        "*/0 * * * *",
        "*/x * * * *",
        "*/ * * * *",
        "*/1/2 * * * *",
        "*-5 * * * *",
        "1-2-3 * * * *",
        "-1 * * * *",
        "1- * * * *",
        "1.5 * * * *",
        "² * * * *",
        ", * * * *",
        "*,60 * * * *",
        "* * L * *",
        "* * * * 1#2",
        "0 0 31 2 *",
        "0 0 30,31 2 ?",
        "0 0 31 4,6,sep,11 *",
        "9" * 5000 + " * * * *",
        "9" * 900 + " * * * *",
        "TZ=UTC",
        "TZ=",
        "CRON_TZ=Europe/Berlin",
        "TZ=UTC ",
        "TZ=Nowhere/Town * * * * *",
        "TZ=../UTC * * * * *",
        "TZ=Europe * * * * *",
        "\ud800 * * * *",
        "TZ=\ud800 * * * * *",
        "TZ=\0 * * * * *",
    ],
)
def test_an_invalid_expression_is_a_corrupt_record(text: str) -> None:
    with pytest.raises(CorruptRecord, match="cron"):
        parse(text)


@pytest.mark.parametrize("prefix", ["TZ=", "CRON_TZ="])
def test_a_zone_prefix_wins(prefix: str) -> None:
    tokyo = parse(f"{prefix}Asia/Tokyo 0 16 * * *")

    assert last_firing(tokyo, BERLIN, _at("2026-06-02T07:08:09")) == _at("2026-06-02T07:00:00")


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("0 12 13 * 5", [5, 12, 13, 19, 26]),
        ("0 12 */10 * 5", [1, 5, 11, 12, 19, 21, 26]),
        ("0 12 * * 5", [5, 12, 19, 26]),
        ("0 12 ? * 5", [5, 12, 19, 26]),
        ("0 12 13 * ?", [13]),
        ("0 12 13 * */3", [3, 6, 7, 10, 13, 14, 17, 20, 21, 24, 27, 28]),
        ("0 12 1-31 * 5", list(range(1, 31))),
    ],
)
def test_day_and_weekday_are_joined_by_or_when_both_are_restricted(text: str, days: list[int]) -> None:
    noons = [_at(f"2026-06-{day:02}T12:00:00") for day in range(1, 31)]

    assert [noon.day for noon in noons if last_firing(parse(text), ZULU, noon) == noon] == days


@pytest.mark.parametrize(
    ("text", "now", "firing"),
    [
        # 29 March 2026: 02:00 CET becomes 03:00 CEST at 01:00 UTC, and 02:30 does not occur.
        ("30 2 * * *", "2026-03-29T12:00:00", "2026-03-28T01:30:00"),
        ("*/30 * * * *", "2026-03-29T01:10:00", "2026-03-29T01:00:00"),
        ("30 2 29 3 *", "2026-03-29T12:00:00", "2025-03-29T01:30:00"),
        # 25 October 2026: 03:00 CEST becomes 02:00 CET at 01:00 UTC, and 02:30 occurs twice.
        ("30 2 * * *", "2026-10-25T00:45:00", "2026-10-25T00:30:00"),
        ("30 2 * * *", "2026-10-25T01:10:00", "2026-10-25T00:30:00"),
        ("30 2 * * *", "2026-10-25T01:30:00", "2026-10-25T01:30:00"),
        ("30 2 * * *", "2026-10-25T22:00:00", "2026-10-25T01:30:00"),
        ("45 1,2 * * *", "2026-10-25T01:44:59", "2026-10-25T00:45:00"),
    ],
)
def test_a_clock_change_skips_and_repeats_firings(text: str, now: str, firing: str) -> None:
    assert last_firing(parse(text), BERLIN, _at(now)) == _at(firing)


def test_a_leap_day_is_found_across_a_century() -> None:
    assert last_firing(parse("0 0 29 2 *"), ZULU, _at("2104-02-28T00:00:00")) == _at("2096-02-29T00:00:00")


@pytest.mark.timeout(10)
def test_a_day_that_a_zone_skipped_has_no_firing() -> None:
    """Samoa had no 30 December 2011: none of its 1,440 firings occurred, so the last is a year earlier."""
    firing = last_firing(parse("* * 30 12 *"), ZoneInfo("Pacific/Apia"), _at("2012-03-01T00:00:00"))

    assert firing == datetime(2010, 12, 30, 23, 59, tzinfo=ZoneInfo("Pacific/Apia")).astimezone(UTC)


class _Asked(Struct, frozen=True):
    """An expression and its meaning, found without the parser."""

    text: str
    matches: Callable[[datetime], bool]


def _field(low: int, high: int) -> st.SearchStrategy[tuple[str, frozenset[int], bool]]:
    """Generate a field: its text, its values, and whether it restricts anything."""
    every = frozenset(range(low, high + 1))
    number = st.integers(low, high)
    step = st.integers(2, high + 3)
    return st.one_of(
        st.sampled_from(["*", "?", "*/1"]).map(lambda text: (text, every, False)),
        step.map(lambda n: (f"*/{n}", frozenset(range(low, high + 1, n)), True)),
        st.tuples(number, step).map(lambda v: (f"{v[0]}/{v[1]}", frozenset(range(v[0], high + 1, v[1])), True)),
        st.tuples(number, number).map(sorted).map(lambda v: (f"{v[0]}-{v[1]}", frozenset(range(v[0], v[1] + 1)), True)),
        st.sets(number, min_size=1, max_size=4).map(lambda v: (",".join(map(str, v)), frozenset(v), True)),
    )


@st.composite
def _asked(draw: st.DrawFn) -> _Asked:
    minute, hour, day, month, weekday = (
        draw(_field(low, high)) for low, high in ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
    )

    def matches(wall: datetime) -> bool:
        on_day, on_weekday = wall.day in day[1], wall.isoweekday() % 7 in weekday[1]
        either = day[2] and weekday[2]
        today = (on_day or on_weekday) if either else (on_day and on_weekday)
        return today and wall.month in month[1] and wall.hour in hour[1] and wall.minute in minute[1]

    return _Asked(" ".join(field[0] for field in (minute, hour, day, month, weekday)), matches)


CHANGES = [
    ("Europe/Berlin", "2026-03-29T01:00:00"),
    ("Europe/Berlin", "2026-10-25T01:00:00"),
    ("America/New_York", "2026-11-01T06:00:00"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00"),
    ("Antarctica/Troll", "2026-10-25T01:00:00"),
    ("Pacific/Apia", "2011-12-30T10:00:00"),
    ("Asia/Pyongyang", "2015-08-14T15:00:00"),
    ("UTC", "2028-02-29T00:00:00"),
]


@settings(max_examples=60)
@given(asked=_asked(), change=st.sampled_from(CHANGES), after_s=st.integers(-3600, 2 * 86400))
def test_it_fires_at_each_instant_whose_wall_time_matches(asked: _Asked, change: tuple[str, str], after_s: int) -> None:
    zone, now = ZoneInfo(change[0]), _at(change[1]) + timedelta(seconds=after_s)
    minute = now.replace(second=0)
    looked_at = [minute - timedelta(minutes=back) for back in range(3000)]
    expected = next((instant for instant in looked_at if asked.matches(instant.astimezone(zone))), None)

    try:
        firing = last_firing(parse(asked.text), zone, now)
    except CorruptRecord:  # names no day that exists
        firing = None

    if expected is None:
        assert firing is None or firing < looked_at[-1]
    else:
        assert firing == expected
