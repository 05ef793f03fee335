"""What is published: wheel and source distribution in `dist/`, SBOM and licences in `build/`."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from release.licences import licences, table

DIST, BUILD = Path("dist"), Path("build")
SBOM, LICENCES = BUILD / "sbom.cdx.json", BUILD / "licences.txt"


def make_distribution() -> None:
    """Build and check everything. Raises CalledProcessError if a tool fails, ValueError for a licence not allowed."""
    shutil.rmtree(DIST, ignore_errors=True)
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir()
    uv("build", "--quiet", "--out-dir", str(DIST))
    _tool("twine", "check", "--strict", *map(str, [*DIST.glob("*.whl"), *DIST.glob("*.tar.gz")]))
    _write_sbom()
    _write_licences()


def uv(*arguments: str, **variables: str) -> None:
    """Run the uv that runs us, or the one on the path."""
    subprocess.run([os.environ.get("UV", "uv"), *arguments], check=True, env=os.environ | variables)


def _tool(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


def _write_sbom() -> None:
    """List what `uv.lock` installs with all extras, and nothing of development."""
    with tempfile.TemporaryDirectory() as folder:
        everything = ("--locked", "--no-dev", "--all-extras", "--no-install-project")
        uv("sync", "--quiet", *everything, UV_PROJECT_ENVIRONMENT=folder)
        written = ("--output-format", "JSON", "--output-file", str(SBOM))
        _tool("cyclonedx_py", "environment", "--pyproject", "pyproject.toml", "--output-reproducible", *written, folder)


def _write_licences() -> None:
    packages = licences(json.loads(SBOM.read_text("utf-8")))
    LICENCES.write_text(table(packages), "utf-8")
    if refused := [package for package in packages if not package.is_allowed]:
        raise ValueError(f"not known to be compatible with the MIT licence (release/licences.py):\n{table(refused)}")
