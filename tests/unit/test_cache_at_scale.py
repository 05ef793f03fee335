"""Many monitors, a cache for a fifth of them: a fifth of the checks continues, evenly. In virtual time."""

from msgspec.structs import replace

from peekaping_producer.catalog.last_known import LastKnown
from peekaping_producer.catalog.reading import Reading
from peekaping_producer.model.cadence import Spacing, cadence
from peekaping_producer.model.monitor import Monitor, MonitorId, Snapshot
from peekaping_producer.observe.outcomes import Outcome

MONITORS, PERIOD_S = 250_000, 60
EXAMPLE = Monitor(MonitorId(""), "", "http", PERIOD_S, 16, 2, 20, 0, True, "", None)
ENDED_S = PERIOD_S + 5
"""Every monitor has been read, and some of them again: these replace their own entries."""
ENTRY_BYTES = 218
"""The size of an entry in a full cache."""


def test_with_room_for_a_fifth_a_fifth_of_the_checks_continues_each_second() -> None:
    due: list[list[MonitorId]] = [[] for _ in range(PERIOD_S)]
    for number in range(MONITORS):
        id_ = MonitorId(f"{number:08x}-0000-4000-8000-{number:012x}")
        due[cadence(id_, PERIOD_S, Spacing.SPREAD).phase_ms // 1000].append(id_)
    cache = LastKnown(MONITORS // 5 * ENTRY_BYTES)
    cache.expect(MONITORS)

    for now_s in range(ENDED_S):
        ids = due[now_s % PERIOD_S]
        for first in range(0, len(ids), 200):
            batch = ids[first : first + 200]
            found = {id_: Snapshot(replace(EXAMPLE, id=id_), None, (), None) for id_ in batch}
            cache.keep(batch, Reading(found, {}), now_s)
    assert cache.too_small
    assert 0.9 * MONITORS / 5 < len(cache) < 1.1 * MONITORS / 5

    unavailable_s = ENDED_S
    shares = [sum(cache.refusal(id_, unavailable_s) is None for id_ in ids) / len(ids) for ids in due]
    assert all(abs(share - len(cache) / MONITORS) < 0.03 for share in shares), shares
    unknown = next(id_ for id_ in due[0] if cache.refusal(id_, unavailable_s))
    assert cache.refusal(unknown, unavailable_s) == Outcome.DEFERRED_NOT_CACHED
