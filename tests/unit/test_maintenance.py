"""Maintenance windows: their bounds, and what makes one broken."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from peekaping_producer.model.maintenance import Verdict, under_maintenance, zone
from peekaping_producer.model.monitor import Maintenance

ZULU = ZoneInfo("UTC")
INT32_MAX = 2**31 - 1

MANUAL = Maintenance(
    id="m-1",
    active=True,
    strategy="manual",
    start_date_time=None,
    end_date_time=None,
    start_time=None,
    end_time=None,
    interval_day=None,
    cron=None,
    timezone=None,
    duration=None,
)
SINGLE = replace(MANUAL, strategy="single", start_date_time="2026-05-04T09:00", end_date_time="2026-05-04T10:00")
DAILY = replace(
    MANUAL,
    strategy="recurring-interval",
    start_date_time="2026-05-04T00:00",
    end_date_time="2026-12-20T00:00",
    start_time="22:00",
    end_time="02:00",
    interval_day=3,
)
CRON = replace(
    MANUAL,
    strategy="cron",
    start_date_time="2025-01-01T00:00",
    end_date_time="2028-01-01T00:00",
    cron="0 9 * * *",
    duration=60,
)


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _holds(maintenance: Maintenance, now: str) -> bool:
    verdict = under_maintenance([maintenance], _at(now), ZULU)
    assert not verdict.broken
    return verdict.under_maintenance


def test_manual_applies_while_active_whatever_its_other_fields() -> None:
    odd = replace(MANUAL, start_date_time="x", end_date_time="2001-01-01T00:00", timezone="bad", duration=-1)

    assert under_maintenance([odd], _at("2026-05-05T05:05:05"), ZULU) == Verdict(under_maintenance=True)
    assert under_maintenance([replace(odd, active=False)], _at("2026-05-05T05:05:05"), ZULU) == Verdict(
        under_maintenance=False
    )


def test_both_ends_of_single_are_exclusive() -> None:
    moments = ["08:59:59", "09:00:00", "09:00:00.000001", "09:59:59.999999", "10:00:00"]

    assert [_holds(SINGLE, f"2026-05-04T{moment}") for moment in moments] == [False, False, True, True, False]


def test_a_window_that_ends_before_it_starts_is_empty() -> None:
    backwards = replace(SINGLE, start_date_time="2026-05-04T10:00", end_date_time="2026-05-04T09:00")

    assert not _holds(backwards, "2026-05-04T09:30:00")


def test_a_cron_window_begins_with_its_firing_and_ends_before_its_duration_is_over() -> None:
    moments = ["08:59:59.999999", "09:00:00", "09:59:59.999999", "10:00:00"]

    assert [_holds(CRON, f"2026-05-04T{moment}") for moment in moments] == [False, True, True, False]


def test_cron_windows_are_cut_by_the_bounds_even_if_the_firing_is_before_them() -> None:
    night = replace(CRON, cron="0 22 * * *", duration=300)

    assert not _holds(night, "2025-01-01T00:00:00")
    assert _holds(night, "2025-01-01T01:00:00")
    assert not _holds(replace(CRON, cron="* * * * *"), "2028-01-01T00:00:00")


@pytest.mark.parametrize("strategy", ["recurring-weekday", "recurring-day-of-month", "weekly", ""])
def test_every_strategy_with_a_cron_that_has_no_rule_of_its_own_is_judged_by_it(strategy: str) -> None:
    other = replace(CRON, strategy=strategy)

    assert _holds(other, "2026-05-04T09:30:00")
    assert not _holds(other, "2026-05-04T10:30:00")


def test_the_part_after_midnight_belongs_to_the_day_the_window_began() -> None:
    held = {
        "2026-05-04T00:30:00": False,  # would have begun the day before the first
        "2026-05-04T22:00:00": False,
        "2026-05-04T22:00:01": True,
        "2026-05-05T00:00:00": True,
        "2026-05-05T01:59:59": True,
        "2026-05-05T02:00:00": False,
        "2026-05-05T23:00:00": False,
        "2026-05-07T01:00:00": False,
        "2026-05-07T23:00:00": True,
        "2026-05-08T01:00:00": True,
    }

    assert {now: _holds(DAILY, now) for now in held} == held


def test_the_first_night_does_not_begin_before_the_first_day() -> None:
    assert not _holds(replace(DAILY, interval_day=1), "2026-05-04T00:30:00")


def test_equal_times_of_day_are_an_empty_window() -> None:
    empty = replace(DAILY, start_time="10:00", end_time="10:00", interval_day=1)

    assert not _holds(empty, "2026-06-01T10:00:30")
    assert not _holds(empty, "2026-06-01T18:00:00")


def test_days_are_counted_by_the_calendar_across_clock_changes() -> None:
    morning = replace(
        DAILY,
        timezone="Europe/Berlin",
        start_date_time="2026-03-23T00:00",
        start_time="00:15",
        end_time="01:30",
        interval_day=2,
    )

    # 29 March is a day of the window and 23 h long; 30 March, 00:45 there, is not one of its days.
    assert _holds(morning, "2026-03-28T23:45:00")
    assert not _holds(morning, "2026-03-29T22:45:00")
    assert _holds(morning, "2026-03-30T22:45:00")


def test_a_daily_window_includes_both_passes_of_a_repeated_hour() -> None:
    early = replace(DAILY, timezone="Europe/Berlin", start_time="01:30", end_time="02:45", interval_day=1)

    held = {"00:30": True, "00:50": True, "01:30": True, "01:44": True, "01:45": False}
    assert {moment: _holds(early, f"2026-10-25T{moment}:00") for moment in held} == held


def test_a_night_with_a_clock_change_still_ends_by_the_wall_clock() -> None:
    night = replace(DAILY, timezone="Europe/Berlin", start_time="22:00", end_time="06:00", interval_day=1)

    assert _holds(night, "2026-10-25T04:59:59")
    assert not _holds(night, "2026-10-25T05:00:00")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Asia/Tokyo", "Asia/Tokyo"),
        ("SAME_AS_SERVER", "Europe/Berlin"),
        (None, "UTC"),
        ("", "UTC"),
        ("Nowhere/Town", "UTC"),
        ("asia/tokyo", "UTC"),
        ("Local", "UTC"),
        ("Asia", "UTC"),
        ("../UTC", "UTC"),
        ("/etc/passwd", "UTC"),
        ("UTC/UTC", "UTC"),
        ("zone.tab", "UTC"),
        ("\0", "UTC"),
        ("\ud800", "UTC"),
        ("x" * 100_000, "UTC"),
    ],
)
def test_an_unknown_zone_means_utc(name: str | None, meant: str) -> None:
    assert zone(name, ZoneInfo("Europe/Berlin")) == ZoneInfo(meant)


@pytest.mark.parametrize("timezone", ["Pacific/Kiritimati", "America/Los_Angeles", "UTC"])
def test_bounds_at_the_ends_of_the_calendar_include_what_is_between(timezone: str) -> None:
    ages = replace(SINGLE, timezone=timezone, start_date_time="0001-01-01T00:00", end_date_time="9999-12-31T23:59")

    assert _holds(ages, "2026-05-04T09:00:00")
    assert _holds(
        replace(ages, strategy="recurring-interval", start_time="00:00", end_time="23:59", interval_day=1),
        "2026-05-04T09:00:00",
    )


@pytest.mark.parametrize(
    ("broken", "column"),
    [
        (replace(SINGLE, start_date_time=None), "start_date_time"),
        (replace(SINGLE, end_date_time=""), "end_date_time"),
        (replace(SINGLE, start_date_time="soon"), "start_date_time"),
        (replace(SINGLE, start_date_time="2026-02-30T10:00"), "start_date_time"),
        (replace(SINGLE, start_date_time="0000-01-01T10:00"), "start_date_time"),
        (replace(SINGLE, end_date_time="2026-05-04T24:00"), "end_date_time"),
        (replace(SINGLE, end_date_time="2026-05-04T10:00\n"), "end_date_time"),
        (replace(SINGLE, end_date_time="2026-05-04T10:00:00"), "end_date_time"),
        (replace(SINGLE, end_date_time="٢026-05-04T10:00"), "end_date_time"),
        (replace(DAILY, start_time=None), "start_time"),
        (replace(DAILY, end_time="25:00"), "end_time"),
        (replace(DAILY, end_time="0905"), "end_time"),
        (replace(DAILY, interval_day=None), "interval_day"),
        (replace(DAILY, interval_day=0), "interval_day"),
        (replace(DAILY, interval_day=-1), "interval_day"),
        (replace(CRON, cron=None), "cron"),
        (replace(CRON, cron=" "), "cron"),
        (replace(CRON, cron="TZ=UTC"), "cron"),
        (replace(CRON, duration=None), "duration"),
        (replace(MANUAL, strategy="Manual"), "strategy"),
    ],
)
def test_a_broken_maintenance_names_its_field_and_hides_no_other(broken: Maintenance, column: str) -> None:
    broken = replace(broken, id="m-broken")
    now = _at("2026-05-04T09:30:00")

    verdict = under_maintenance([broken], now, ZULU)

    assert not verdict.under_maintenance
    named = verdict.broken
    assert [one.maintenance_id for one in named] == ["m-broken"]
    assert named[0].reason.startswith(column)
    assert under_maintenance([broken, SINGLE], now, ZULU) == Verdict(under_maintenance=True, broken=named)
    assert under_maintenance([SINGLE, broken], now, ZULU) == Verdict(under_maintenance=True, broken=named)
    assert under_maintenance([replace(broken, active=False)], now, ZULU) == Verdict(under_maintenance=False)


def test_one_maintenance_in_its_window_is_enough() -> None:
    over = replace(SINGLE, id="m-over", end_date_time="2026-05-04T09:10")
    now = _at("2026-05-04T09:30:00")

    assert under_maintenance([over, SINGLE], now, ZULU) == Verdict(under_maintenance=True)
    assert under_maintenance([SINGLE, over], now, ZULU) == Verdict(under_maintenance=True)
    assert under_maintenance([over, over], now, ZULU) == Verdict(under_maintenance=False)


def test_without_maintenances_there_is_no_maintenance() -> None:
    assert under_maintenance([], _at("2026-05-04T09:30:00"), ZULU) == Verdict(under_maintenance=False)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("duration", [INT32_MAX, 153_722_868, 10**30])
@pytest.mark.parametrize("cron", ["* * * * *", "0 0 1 1 *", "0 0 29 2 *"])
def test_an_extremely_long_duration_works_and_is_cheap(duration: int, cron: str) -> None:
    assert _holds(replace(CRON, cron=cron, duration=duration), "2026-05-04T09:30:00")


@pytest.mark.parametrize("duration", [0, -5, -(2**31), -(10**30)])
def test_a_duration_of_zero_or_less_is_an_empty_window(duration: int) -> None:
    assert not _holds(replace(CRON, cron="* * * * *", duration=duration), "2026-05-04T09:30:00")


TEXT = st.one_of(
    st.none(),
    st.text(max_size=40),
    st.text(st.characters(), max_size=40),
    st.text("0123456789-T: ", max_size=18),
    st.text("0123456789*/,-? TZ=UC\n", max_size=30),
    st.lists(st.text("0123456789*/,-?", min_size=1, max_size=6), min_size=5, max_size=5).map(" ".join),
    st.sampled_from(
        ["0001-01-01T00:00", "9999-12-31T23:59", "2026-03-29T02:30", "00:00", "23:59", "SAME_AS_SERVER", "Asia/Gaza"]
    ),
)
MAINTENANCES = st.builds(
    Maintenance,
    id=st.text(max_size=5),
    active=st.booleans(),
    strategy=st.one_of(
        st.sampled_from(["manual", "single", "recurring-interval", "recurring-weekday", "cron"]), st.text(max_size=10)
    ),
    start_date_time=st.one_of(st.just("2000-01-01T00:00"), TEXT),
    end_date_time=st.one_of(st.just("2099-01-01T00:00"), TEXT),
    start_time=st.one_of(st.just("22:00"), TEXT),
    end_time=st.one_of(st.just("06:00"), TEXT),
    interval_day=st.one_of(st.none(), st.integers(), st.integers(1, 10)),
    cron=TEXT,
    timezone=TEXT,
    duration=st.one_of(st.none(), st.integers(), st.integers(1, INT32_MAX)),
)
INSTANTS = st.datetimes(datetime(1972, 1, 8), datetime(9998, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@settings(max_examples=100, deadline=timedelta(seconds=5))
@given(maintenances=st.lists(MAINTENANCES, max_size=4), now=INSTANTS)
def test_whatever_the_columns_hold_each_active_one_is_judged_or_reported(
    maintenances: list[Maintenance], now: datetime
) -> None:
    verdict = under_maintenance(maintenances, now, ZoneInfo("America/New_York"))

    alone = [under_maintenance([one], now, ZoneInfo("America/New_York")) for one in maintenances]
    held = any(one.under_maintenance for one in alone)
    assert verdict == Verdict(held, tuple(broken for one in alone for broken in one.broken))
