"""The built wheel and source distribution: everything they need is in them, and an index page shows it rightly."""

import email.policy
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import EmailMessage
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = Path("src/peekaping_producer")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / PACKAGE).rglob("*")
    if path.is_file() and path.suffix != ".pyc"
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both, and return their folder."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture
def metadata(built: Path) -> EmailMessage:
    """Return the wheel's metadata; its body is the text of the index page."""
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        message = email.message_from_bytes(wheel.read(name), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def test_both_hold_every_file_of_the_package(built: Path) -> None:
    assert {Path(name).suffix for name in FILES} >= {".py", ".lua", ".sql", ".typed"}
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        assert {f"src/{name}" for name in wheel.namelist() if ".dist-info/" not in name} == FILES
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        assert {name.partition("/")[2] for name in sdist.getnames()} >= {*FILES, "LICENSE", "CHANGELOG.md"}


def test_links_of_the_index_page_are_absolute_and_lead_to_files_of_this_version(metadata: EmailMessage) -> None:
    links = re.findall(r"\]\(([^)]*)\)", metadata.get_content())
    assert [link for link in links if not link.startswith("https://")] == []
    source, tag = PROJECT["urls"]["Source"], f"v{metadata['Version']}"
    raw = source.replace("//github.com/", "//raw.githubusercontent.com/")
    pictures = [link.removeprefix(f"{raw}/{tag}/") for link in links if link.startswith(f"{raw}/{tag}/")]
    pages = [link.removeprefix(f"{source}/blob/{tag}/") for link in links if link.startswith(f"{source}/blob/{tag}/")]
    assert pictures == ["docs/demo.svg", "docs/bench.svg", "docs/pictures/page-light.png"]
    assert {"docs/configuration.md", "CHANGELOG.md"} <= {*pages}
    assert [name for name in [*pictures, *pages] if not (ROOT / name.partition("#")[0]).is_file()] == []


def test_all_addresses_are_those_of_one_project() -> None:
    own = {name: url for name, url in PROJECT["urls"].items() if name != "Peekaping"}
    assert own.keys() >= {"Homepage", "Documentation", "Changelog", "Issues", "Source"}
    assert [url for url in own.values() if not url.startswith(own["Source"])] == []


def test_metadata(metadata: EmailMessage) -> None:
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    classifiers = metadata.get_all("Classifier", [])
    versions = [name.rpartition(" ")[2] for name in classifiers if re.search(r":: 3\.\d+$", name)]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
