"""The cache of last known good monitors: what it serves, what it removes, and the memory it takes (invariant 12)."""

import subprocess
import sys
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from peekaping_producer.catalog.last_known import MB, RECENT_PERIODS, RECENT_S, LastKnown
from peekaping_producer.catalog.reading import Reading
from peekaping_producer.model.monitor import Heartbeat, Maintenance, Monitor, MonitorId, Proxy, Snapshot
from peekaping_producer.observe.outcomes import Outcome

NOW_S = 1_000_000.0
MAINTENANCE = Maintenance("m", True, "cron", None, None, None, None, 2, "0 2 * * *", "Europe/Berlin", 60)
PROXY = Proxy("p", "http", "proxy.example.org", 3128, True, "me", "hush")


def new_id() -> MonitorId:
    return MonitorId(str(uuid.uuid4()))


def snapshot(id_: MonitorId | None = None, **values: Any) -> Snapshot:
    monitor = Monitor(id_ or new_id(), "Example", "http", 60, 16, 2, 20, 0, True, "{}", None)
    return Snapshot(replace(monitor, **values), None, (), None)


def reading(*snapshots: Snapshot, **others: Any) -> Reading:
    return Reading({one.monitor.id: one for one in snapshots}, others.pop("invalid", {}), **others)


def kept(*snapshots: Snapshot, at_s: float = NOW_S, most_bytes: int = MB) -> LastKnown:
    cache = LastKnown(most_bytes)
    read = reading(*snapshots)
    cache.keep(read.found, read, at_s)
    return cache


def served(
    cache: LastKnown, *ids: MonitorId, since_s: float = NOW_S, now_s: float = NOW_S
) -> dict[MonitorId, Snapshot]:
    return cache.read(ids, since_s, now_s).found


def test_it_returns_what_was_stored() -> None:
    whole = replace(snapshot(name="Jörg 🦔", config='{"a": "ä\\u0000"}'), proxy=PROXY, maintenances=(MAINTENANCE,) * 2)
    bare = snapshot(config="", proxy_id="p", timeout=-(2**31), max_retries=2**31 - 1)
    cache = kept(whole, bare)
    answer = cache.read([whole.monitor.id, bare.monitor.id], NOW_S, NOW_S + 7)
    assert answer == reading(whole, bare, from_cache=True, age_s=7.0)


_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_INT32 = st.integers(-(2**31), 2**31 - 1)
_MAYBE = st.none() | _TEXT


@given(
    st.builds(
        Snapshot,
        st.builds(
            Monitor,
            st.uuids().map(str),
            _TEXT,
            _TEXT.filter(lambda text: text != "push"),
            st.integers(1, 2**31 - 1),
            *[_INT32] * 4,
            st.just(value=True),
            _TEXT,
            _MAYBE,
        ),
        st.none() | st.builds(Proxy, _TEXT, _TEXT, _TEXT, _INT32, st.booleans(), _TEXT, _TEXT),
        st.lists(
            st.builds(
                Maintenance,
                _TEXT,
                st.just(value=True),
                _TEXT,
                _MAYBE,
                _MAYBE,
                _MAYBE,
                _MAYBE,
                st.none() | st.integers(-(2**63), 2**63 - 1),
                _MAYBE,
                _MAYBE,
                st.none() | st.integers(-(2**63), 2**63 - 1),
            )
        ).map(tuple),
        st.none(),
    )
)
def test_whatever_a_database_may_hold_is_returned_unchanged(value: Snapshot) -> None:
    id_ = value.monitor.id
    assert served(kept(value), id_) == {id_: value}


def test_text_that_cannot_be_stored_affects_no_other_monitor() -> None:
    broken = replace(snapshot(), maintenances=(replace(MAINTENANCE, strategy="\udcff"),))
    huge = replace(snapshot(), maintenances=(replace(MAINTENANCE, duration=2**70),))
    sound = snapshot()
    assert list(served(kept(broken, huge, sound), *(one.monitor.id for one in (broken, huge, sound)))) == [
        sound.monitor.id
    ]


def test_a_monitor_never_read_is_deferred() -> None:
    id_ = new_id()
    assert kept().read([id_], NOW_S, NOW_S).deferred == {id_: Outcome.DEFERRED_NOT_CACHED}


def test_a_push_monitor_is_always_deferred() -> None:
    push = snapshot(type="push")
    beat = Heartbeat("h", push.monitor.id, 1, "", 0, 0, 0, 0, False, datetime.now(UTC), None, False)
    answer = kept(replace(push, last_heartbeat=beat)).read([push.monitor.id], NOW_S, NOW_S)
    assert (answer.found, answer.deferred) == ({}, {push.monitor.id: Outcome.DEFERRED_PUSH})


@pytest.mark.parametrize(("interval_s", "within_s"), [(1, RECENT_S), (60, RECENT_S), (3600, RECENT_PERIODS * 3600)])
def test_invariant_12_only_monitors_read_shortly_before_the_outage_are_served(interval_s: int, within_s: float) -> None:
    one = snapshot(interval=interval_s)
    cache = kept(one)
    assert served(cache, one.monitor.id, since_s=NOW_S + within_s)
    assert not served(cache, one.monitor.id, since_s=NOW_S + within_s + 0.1)


def test_it_is_served_however_long_the_outage_lasts() -> None:
    one = snapshot(interval=20)
    answer = kept(one).read([one.monitor.id], NOW_S + 10, NOW_S + 1_000_000)
    assert answer.found
    assert answer.age_s == 1_000_000


def test_the_age_is_that_of_the_oldest_served() -> None:
    old, new, push = snapshot(), snapshot(), snapshot(type="push")
    cache = LastKnown(MB)
    for at_s, one in ((NOW_S - 99, push), (NOW_S - 30, old), (NOW_S - 2, new)):
        cache.keep([one.monitor.id], reading(one), at_s)
    ids = [one.monitor.id for one in (new, old, push)]
    assert cache.read(ids, NOW_S, NOW_S).age_s == 30
    assert cache.read(ids[:1], NOW_S, NOW_S).age_s == 2
    assert cache.read(ids[2:], NOW_S, NOW_S).age_s == 0


@pytest.mark.parametrize("how", ["gone", "inactive", "invalid"])
def test_a_later_reading_without_it_removes_it(how: str) -> None:
    one, other = snapshot(), snapshot()
    id_ = one.monitor.id
    cache = kept(one, other)
    found = replace(one, monitor=replace(one.monitor, active=False))
    fresh = {"gone": reading(), "inactive": reading(found), "invalid": reading(invalid={id_: "nonsense"})}[how]
    cache.keep([id_], fresh, NOW_S + 1)
    assert list(served(cache, id_, other.monitor.id)) == [other.monitor.id]


def test_a_monitor_that_becomes_a_push_monitor_is_treated_as_one() -> None:
    one = snapshot()
    cache = kept(one)
    cache.keep([one.monitor.id], reading(snapshot(one.monitor.id, type="push")), NOW_S + 1)
    assert cache.read([one.monitor.id], NOW_S, NOW_S).deferred == {one.monitor.id: Outcome.DEFERRED_PUSH}


def test_the_newest_reading_counts() -> None:
    one = snapshot()
    cache = kept(one)
    edited = snapshot(one.monitor.id, name="Edited")
    cache.keep([one.monitor.id], reading(edited), NOW_S + 1)
    assert served(cache, one.monitor.id) == {one.monitor.id: edited}
    assert len(cache) == 1


def test_a_removed_monitor_is_not_restored_by_a_reading_under_way() -> None:
    one = snapshot()
    id_ = one.monitor.id
    cache = kept(one)
    cache.forget([id_, new_id()], NOW_S + 5)
    assert not served(cache, id_)
    cache.keep([id_], reading(one), NOW_S + 4)
    assert not served(cache, id_)
    cache.keep([id_], reading(one), NOW_S + 6)
    assert served(cache, id_)


def test_removed_monitors_free_their_memory() -> None:
    cache = LastKnown(MB)
    for second in range(1000):
        cache.forget([new_id()], NOW_S + second)
    assert len(cache._forgotten_s) < 100


def test_with_no_memory_it_stays_empty() -> None:
    one = snapshot()
    cache = kept(one, most_bytes=0)
    assert cache.read([one.monitor.id], NOW_S, NOW_S).deferred == {one.monitor.id: Outcome.DEFERRED_NOT_CACHED}
    assert len(cache) == 0


def test_a_full_cache_updates_its_entries_and_admits_no_new_ones() -> None:
    cache = LastKnown(100_000)
    ones = [snapshot(config="x" * 1000) for _ in range(200)]
    ids = [one.monitor.id for one in ones]
    for second, one in enumerate(ones):
        cache.keep([one.monitor.id], reading(one), NOW_S + second)
    members = list(served(cache, *ids, since_s=NOW_S + 200))
    assert 50 < len(members) < 100
    assert members == ids[: len(members)]
    assert cache.too_small
    edited = [snapshot(id_, config="y" * 1000) for id_ in ids]
    cache.keep(ids, reading(*edited), NOW_S + 500)
    assert served(cache, *ids, since_s=NOW_S + 800) == {one.monitor.id: one for one in edited[: len(members)]}


def test_monitors_that_are_removed_make_room_for_others() -> None:
    cache = LastKnown(100_000)
    ones = [snapshot(config="x" * 1000) for _ in range(200)]
    ids = [one.monitor.id for one in ones]
    cache.keep(ids, reading(*ones), NOW_S)
    full = len(cache)
    cache.forget(ids[:20], NOW_S + 1)
    cache.keep(ids[20:40], reading(), NOW_S + 2)
    assert len(cache) == full - 40
    cache.keep(ids[-50:], reading(*ones[-50:]), NOW_S + 3)
    assert full - 5 < len(cache) <= full


def test_a_cache_that_is_off_or_holds_all_is_not_too_small() -> None:
    one = snapshot()
    for most_bytes in (0, MB):
        cache = kept(one, most_bytes=most_bytes)
        cache.expect(1)
        assert not cache.too_small


def test_the_megabytes_it_needs_hold_all() -> None:
    ones = [snapshot(config="x" * 300) for _ in range(5_000)]
    found = reading(*ones)
    cache = kept(*ones)
    assert cache.too_small
    larger = LastKnown(cache.needed_mb(len(ones)) * MB)
    larger.expect(len(ones))
    larger.keep(found.found, found, NOW_S)
    assert len(larger) == len(ones)
    assert not larger.too_small


def test_a_monitor_larger_than_the_bound_is_removed() -> None:
    one, other = snapshot(), snapshot()
    cache = kept(one, most_bytes=50_000)
    cache.keep([one.monitor.id], reading(snapshot(one.monitor.id, config="x" * 60_000)), NOW_S + 1)
    assert not served(cache, one.monitor.id)
    cache.keep([other.monitor.id], reading(other), NOW_S + 2)
    assert served(cache, other.monitor.id)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3000), st.sampled_from(["keep", "gone", "forget"]))))
def test_its_size_is_that_of_its_entries(steps: list[tuple[int, int, str]]) -> None:
    ids = [MonitorId(str(uuid.UUID(int=number))) for number in range(10)]
    cache, mirror = LastKnown(10_000), LastKnown(10_000)
    for second, (number, length, step) in enumerate(steps):
        id_ = ids[number]
        if step == "forget":
            cache.forget([id_], NOW_S + second)
        else:
            found = reading(snapshot(id_, config="x" * length)) if step == "keep" else reading()
            cache.keep([id_], found, NOW_S + second + 0.5)
        assert cache.size_bytes <= 10_000 or len(cache) == 0
    for id_, one in served(cache, *ids).items():
        mirror.keep([id_], reading(one), NOW_S)
    assert cache._entries_bytes == mirror._entries_bytes


_FILL = """
import gc, sys, tracemalloc, uuid
import psutil
from msgspec.structs import replace
from peekaping_producer.catalog.last_known import MB, LastKnown
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.catalog.reading import Reading
from peekaping_producer.model.monitor import Maintenance, Monitor, MonitorId, Proxy, Snapshot

traced, megabytes, monitors, size_of = sys.argv[1] == "traced", int(sys.argv[2]), int(sys.argv[3]), eval(sys.argv[4])
maintenance = Maintenance("m" * 36, True, "cron", None, None, None, None, 2, "0 2 * * *", "Europe/Berlin", 60)
proxy = Proxy("p" * 36, "http", "proxy.example.org", 3128, True, "me", "hush")
cache = LastKnown(megabytes * MB)

def keep(first, at_s):
    found = {}
    for number in range(first, first + 200):
        id_ = MonitorId(str(uuid.UUID(int=number)))
        monitor = Monitor(id_, f"Monitor {number}", "http", 60, 16, 2, 60, 0, True, "x" * size_of(number), None)
        belongings = (proxy, (maintenance,)) if number % 20 == 0 else (None, ())
        found[id_] = Snapshot(monitor, *belongings, None)
    cache.keep(list(found), Reading(found, {}), at_s)

gc.collect()
if traced:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
else:
    before = psutil.Process().memory_info().rss
# Twice, since in use every entry is replaced many times.
for at_s in (1.0, 2.0):
    for first in range(0, monitors, 200):
        keep(first, at_s)
gc.collect()
took = (tracemalloc.get_traced_memory()[0] if traced else psutil.Process().memory_info().rss) - before
print(len(cache), cache.size_bytes, took)
"""
SIZES = {
    "as in use": "lambda number: 280",
    "none": "lambda number: 0",
    "odd": "lambda number: (0, 7, 280, 1_000, 30_000)[number % 5]",
    "a few huge": "lambda number: 3_000_000 if number % 10_000 == 0 else 100",
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("measured_by", "sizes", "megabytes", "monitors"),
    [
        ("rss", "as in use", 64, 160_000),
        ("rss", "odd", 8, 20_000),
        ("traced", "none", 4, 10_000),
        ("traced", "odd", 4, 4_000),
        ("rss", "a few huge", 8, 60_000),
    ],
)
def test_the_bound_holds_in_real_memory(measured_by: str, sizes: str, megabytes: int, monitors: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FILL, measured_by, str(megabytes), str(monitors), SIZES[sizes]],
        capture_output=True,
        text=True,
        check=True,
    )
    _, size, took = map(int, done.stdout.split())
    bound = megabytes * MB
    assert size <= bound
    if measured_by == "traced":
        assert took <= size * 1.01 + 50_000
        assert size <= took * 1.15
    else:
        # Beside it, the process needs the current batch and the allocator's reserve.
        assert took <= bound * 1.15 + 16 * MB
