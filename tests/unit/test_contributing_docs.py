"""CONTRIBUTING.md teaches by diffs of this tree: they apply to it, and name all the files that they touch."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(
    r"^### (.+?)\n(.+?)(?=^##)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


def _diffs(example: str) -> str:
    return "".join(re.findall(r"^```diff\n(.+?)^```", example, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("example", [text for _, text in EXAMPLES], ids=[name for name, _ in EXAMPLES])
def test_an_example_applies_to_this_tree(example: str) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    done = subprocess.run(
        [git, "apply", "--check", "-"], cwd=ROOT, input=_diffs(example), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"make the example again: {done.stderr}"


@pytest.mark.parametrize("example", [text for _, text in EXAMPLES], ids=[name for name, _ in EXAMPLES])
def test_an_example_names_the_files_it_touches(example: str) -> None:
    (listed,) = re.findall(r"^Files: (.+?)\.$", example, re.MULTILINE | re.DOTALL)
    touched = re.findall(r"^\+\+\+ b/(?:src/peekaping_producer/)?(.+)$", _diffs(example), re.MULTILINE)
    assert set(touched) <= set(re.findall(r"`(.+?)`", listed))


def test_there_are_four_examples() -> None:
    assert len(EXAMPLES) == 4
