"""docs/reliability.md names every script of the schedule and of the leader, and inlines that the model has."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/peekaping_producer"
MODEL = (ROOT / "tests/model/redis.pml").read_text(encoding="utf-8")
SECTION = (ROOT / "docs/reliability.md").read_text(encoding="utf-8").split("### Script by script")[1].split("###")[0]


def test_every_script_has_its_place_in_the_model() -> None:
    scripts = {path.name for folder in ("schedule", "leader") for path in (PACKAGE / folder).glob("*.lua")}
    rows = re.findall(r"^\| (`.*?) \|", SECTION, re.MULTILINE)
    assert set(re.findall(r"`(\w+\.lua)`", " ".join(rows))) == scripts


def test_the_inlines_that_it_names_exist() -> None:
    named = set(re.findall(r"`(\w+_lua|place|withdraw)`", SECTION))
    assert named == set(re.findall(r"^inline (\w+_lua|place|withdraw)\(", MODEL, re.MULTILINE))
