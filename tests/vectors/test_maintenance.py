"""Every recorded maintenance case gets the answer of the protocol."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from peekaping_producer.model.maintenance import under_maintenance, zone
from peekaping_producer.model.monitor import Maintenance
from vectors.vectors import load

CASES = load("maintenance")["cases"]
STRATEGIES = sorted({case["maintenance"]["strategy"] for case in CASES})
EITHER = (True, False)


def _answers(case: dict[str, Any]) -> tuple[bool, ...]:
    """Return the answers that count as right: where Go's looks wrong, the protocol's; where that says nothing, any."""
    answer = case["protocol_answer"] if "go_quirk" in case else case["in_window"]
    return EITHER if answer is None else (answer,)


def _answer(case: dict[str, Any]) -> bool:
    columns = {name: value for name, value in case["maintenance"].items() if name in Maintenance.__struct_fields__}
    maintenance, now = Maintenance(id=case["id"], **columns), datetime.fromisoformat(case["now"])
    return under_maintenance([maintenance], now, zone(case["server_tz"], ZoneInfo("UTC"))).under_maintenance


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_recorded_cases_get_their_answers(strategy: str) -> None:
    cases = [case for case in CASES if case["maintenance"]["strategy"] == strategy]
    assert [case["id"] for case in cases if _answer(case) not in _answers(case)] == []


def test_the_vectors_are_there() -> None:
    assert len({case["id"] for case in CASES}) == len(CASES) >= 910
