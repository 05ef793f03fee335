"""What `make release` decides: the changelog's heading, where the version is, and which licences may be shipped."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from release.changelog import released
from release.licences import SHIPPED, Licensed, licences, table
from release.version import NAMED_IN, project_version, renamed

ROOT = Path(__file__).parents[2]
DAY = date(2026, 12, 1)


@pytest.mark.parametrize("heading", ["0.1.0 (unreleased)", "Unreleased"])
def test_the_newest_section_becomes_that_of_the_version(heading: str) -> None:
    rest = "\n\nNew.\n\n## 0.0.9 (2026-11-01)\n\nOld: unreleased.\n"
    assert released(f"# Changelog\n\n## {heading}{rest}", "0.2.0", DAY) == f"# Changelog\n\n## 0.2.0 (2026-12-01){rest}"


@pytest.mark.parametrize("text", ["# Changelog\n", "# Changelog\n\n## 0.1.0 (2026-11-01)\n\n## Unreleased\n"])
def test_a_changelog_without_news_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="CHANGELOG"):
        released(text, "0.2.0", DAY)


def test_the_version_is_renamed_and_no_other_number() -> None:
    text = 'image: producer:0.1.0\ntag: "0.1.0"\nWith 0.1.0. Not 10.1.0, 0.1.0.1 or 0.1.01.'
    assert renamed(text, "0.1.0", "1.2.3") == text.replace("producer:0.1.0", "producer:1.2.3").replace(
        '"0.1.0"', '"1.2.3"'
    ).replace("With 0.1.0.", "With 1.2.3.")


def test_every_file_for_operators_that_names_the_version_is_known() -> None:
    version = project_version((ROOT / "pyproject.toml").read_text("utf-8"))
    files = [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    files += [ROOT / "docs" / "install.md", ROOT / "README.md"]
    texts = {path.relative_to(ROOT): path.read_text("utf-8") for path in files}
    assert {path for path, text in texts.items() if renamed(text, version, "") != text} == {*NAMED_IN}


def _component(name: str, *declared: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "licenses": [*declared]}


def test_licences_are_read_as_spdx_expressions() -> None:
    sbom = {
        "components": [
            _component("one", {"license": {"id": "MIT"}}),
            _component("two", {"license": {"id": "MPL-2.0"}}, {"license": {"name": "License :: OSI Approved :: MPL"}}),
            _component("three", {"expression": "MIT OR Apache-2.0"}),
            _component("four", {"license": {"name": "proprietary"}}),
            {"name": "five", "version": "1.0"},
        ]
    }
    assert table(licences(sbom)).splitlines() == [
        "one 1.0: MIT",
        "two 1.0: MPL-2.0",
        "three 1.0: MIT OR Apache-2.0",
        "four 1.0: unknown",
        "five 1.0: unknown",
        *table(SHIPPED).splitlines(),
    ]


def test_what_is_in_the_package_is_listed_as_it_is() -> None:
    (uplot,) = SHIPPED
    folder = ROOT / "src" / "peekaping_producer" / "web" / "static" / uplot.name
    assert f"uPlot (v{uplot.version})" in (folder / "uPlot.iife.min.js").read_text("utf-8")[:100]
    assert (folder / "LICENSE").read_text("utf-8").startswith("The MIT License (MIT)")


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("MIT AND (Apache-2.0 OR BSD-3-Clause)", True),
        ("GPL-2.0-only", False),
        ("MIT AND GPL-2.0-only", False),
        ("(MIT OR LGPL-3.0-or-later)", False),
        ("unknown", False),
    ],
)
def test_only_compatible_licences_are_allowed(licence: str, allowed: bool) -> None:
    assert Licensed("one", "1.0", licence).is_allowed == allowed
