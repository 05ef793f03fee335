"""ARCHITECTURE.md draws the levels of `make layers`, and names the files that keep and show each invariant."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "peekaping_producer"
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \| \*\*(.+?)\*\* \| (.+?) \| (.+?) \|$", TEXT, re.MULTILINE)


def _files(cell: str) -> list[str]:
    return re.findall(r"`(.+?)`", cell)


def _cites(path: Path, number: str) -> bool:
    """Return whether a file says `invariant N`, or lists N after `invariants`."""
    lists = re.findall(r"[Ii]nvariants?((?:\W+(?:and\W+)?\d+(?: \([^)]*\))?)+)", path.read_text(encoding="utf-8"))
    return any(number in re.findall(r"\d+", re.sub(r"\([^)]*\)", "", text)) for text in lists)


def test_the_levels_are_those_of_the_import_contract() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    whole_package = [settings["root_package"]]
    (layers,) = [one["layers"] for one in settings["contracts"] if one.get("containers") == whole_package]
    drawn = TEXT.partition("### Imports go one way")[2].split("```")[1]
    assert [line.split() for line in drawn.strip().splitlines()] == [re.findall(r"\w+", level) for level in layers]


def test_every_invariant_is_described() -> None:
    described = re.findall(r"^(\d+)\. \*\*(.+?)\*\*", TEXT.partition("## Invariants")[2], re.MULTILINE)
    assert [number for number, *_ in ROWS] == [number for number, _ in described] != []


@pytest.mark.parametrize(("number", "kept_in"), [(row[0], file) for row in ROWS for file in _files(row[2])])
def test_code_that_keeps_an_invariant_cites_it(number: str, kept_in: str) -> None:
    assert _cites(PACKAGE / kept_in, number)


@pytest.mark.parametrize(("number", "shown_by"), [(row[0], _files(row[3])) for row in ROWS])
def test_an_invariant_has_a_test_named_after_it(number: str, shown_by: list[str]) -> None:
    first, *others = (ROOT / file for file in shown_by)
    assert f"def test_invariant_{number}_" in first.read_text(encoding="utf-8")
    assert all(_cites(path, number) for path in others)
