"""Every recorded maintenance case gets the answer of the protocol."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from peekaping_producer.model.maintenance import under_maintenance, zone
from peekaping_producer.model.monitor import Maintenance
from vectors.vectors import load

CASES = load("maintenance")["cases"]
EITHER = (True, False)


def _answers(case: dict[str, Any]) -> tuple[bool, ...]:
    """Return the answers that count as right: where Go's looks wrong, the protocol's; where that says nothing, any."""
    answer = case["protocol_answer"] if "go_quirk" in case else case["in_window"]
    return EITHER if answer is None else (answer,)


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_recorded_case_gets_its_answer(case: dict[str, Any]) -> None:
    columns = {name: value for name, value in case["maintenance"].items() if name in Maintenance.__struct_fields__}
    server_zone = zone(case["server_tz"], ZoneInfo("UTC"))

    verdict = under_maintenance(
        [Maintenance(id=case["id"], **columns)], datetime.fromisoformat(case["now"]), server_zone
    )

    assert verdict.under_maintenance in _answers(case)


def test_the_vectors_are_there() -> None:
    assert len({case["id"] for case in CASES}) == len(CASES) >= 910
