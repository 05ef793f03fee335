"""The options of the benchmark: which parts run, and how much they measure."""

from pathlib import Path

import pytest
from benchmarks.__main__ import read_options
from benchmarks.part import DEFAULT, FULL, QUICK
from benchmarks.parts import PARTS

PROMISED_S = 600


def _names(*arguments: str) -> list[str]:
    return [part.name for part in read_options(arguments).parts]


def test_the_default_run_takes_at_most_ten_minutes() -> None:
    parts = read_options([]).parts
    assert sum(part.takes_s for part in parts) <= PROMISED_S
    assert "many" not in [part.name for part in parts]


def test_a_full_run_has_every_part() -> None:
    options = read_options(["--full"])
    assert [part.name for part in options.parts] == list(PARTS)
    assert options.size == FULL


def test_only_picks_parts_in_their_usual_order() -> None:
    assert _names("--only", "many", "herd") == ["herd", "many"]
    assert read_options(["--only", "herd", "--quick"]).size == QUICK


def test_an_unknown_part_is_refused_with_the_names_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        read_options(["--only", "herd", "hurd"])
    assert exited.value.code == 2
    error = capsys.readouterr().err
    assert f"unknown part hurd: the parts are {', '.join(PARTS)}" in error


def test_sizes_can_be_set_one_by_one() -> None:
    options = read_options(
        [
            "--monitors",
            "300",
            "400",
            "--nodes",
            "4",
            "--steady-monitors",
            "50",
            "--steady-seconds",
            "2",
            "--rounds",
            "7",
        ]
    )
    size = options.size
    assert (size.monitors, size.nodes, size.steady_monitors, size.steady_s, size.rounds) == (
        (300, 400),
        (4,),
        (50,),
        2,
        7,
    )
    assert size.events == DEFAULT.events


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_a_size_that_is_no_number_above_zero_is_refused(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_options([f"--rounds={number}"])
    assert "--rounds" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b'{"machine": 1}'])
def test_what_is_compared_with_must_be_a_report(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SystemExit) as exited:
        read_options(["--against", str(file)])
    assert exited.value.code == 2
    assert f"--against {file}: " in capsys.readouterr().err


def test_the_help_lists_each_part_with_its_duration(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_options(["--help"])
    shown = capsys.readouterr().out
    for part in PARTS.values():
        assert f"{part.name} " in shown
        assert f"{part.measures} ({part.takes_s} s" in shown
