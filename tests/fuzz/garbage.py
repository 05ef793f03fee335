"""Strategies for what the outside may send, and how many examples of it are tried."""

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

SECRET = "s3cr3t-never-shown"
"""In places where a secret may be; no error may show it."""

PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
"""Without explanations, for which each line is traced."""
_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def examples(few: int) -> settings:
    """Return the settings of a test that tries this many examples; FUZZ_EXAMPLES in the environment replaces it."""
    return settings(
        max_examples=_EXAMPLES or few,
        deadline=None,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
    )


texts = st.text(max_size=20) | st.sampled_from(["", "null", "http", "push", "0", "-1", "true", "A\udcffB", "\0"])
numbers = st.integers(-(2**70), 2**70) | st.sampled_from([0, 1, 20, -1, 2**31 - 1, 2**31, 2**63])
floats = st.floats() | st.sampled_from([20.0, 0.5, float("nan"), float("inf"), 1e300])
plain = st.none() | st.booleans() | numbers | floats | texts
json_values: st.SearchStrategy[Any] = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
