"""docs/reliability.md has each promise and invariant with tests that exist, and every script with its model."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/peekaping_producer"
PAGE = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
PROMISES = re.findall(r"^### G(\d+) (.+?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
MODEL = (ROOT / "tests/model/redis.pml").read_text(encoding="utf-8")
SECTION = PAGE.split("### Script by script")[1].split("###")[0]


def test_every_script_has_its_place_in_the_model() -> None:
    scripts = {path.name for folder in ("schedule", "leader") for path in (PACKAGE / folder).glob("*.lua")}
    rows = re.findall(r"^\| (`.*?) \|", SECTION, re.MULTILINE)
    assert set(re.findall(r"`(\w+\.lua)`", " ".join(rows))) == scripts


def test_the_inlines_that_it_names_exist() -> None:
    named = set(re.findall(r"`(\w+_lua|place|withdraw)`", SECTION))
    assert named == set(re.findall(r"^inline (\w+_lua|place|withdraw)\(", MODEL, re.MULTILINE))


def test_the_tests_that_it_names_exist() -> None:
    texts = (path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    existing = {name for text in texts for name in re.findall(r"^(?:async )?def (test_\w+)\(", text, re.MULTILINE)}
    assert set(re.findall(r"`(test_\w+)`", PAGE)) <= existing


def test_each_promise_says_how_it_is_kept_and_names_its_tests() -> None:
    assert [int(number) for number, _ in PROMISES] == list(range(1, 11))
    for _, text in PROMISES:
        assert "- **Kept by:**" in text
        assert re.search(r"- \*\*Shown by:\*\*\s+`test_", text), text


@pytest.mark.parametrize("number", range(1, 13))
def test_each_invariant_has_its_test(number: int) -> None:
    assert re.search(rf"^\| {number} .+`test_invariant_{number}_", PAGE, re.MULTILINE)
