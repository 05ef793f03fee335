"""The version where it is written for operators: as the tag of the image, and in the README."""

import re
from pathlib import Path

NAMED_IN = (
    Path("deploy/compose/producer.yml"),
    Path("deploy/docker/Dockerfile"),
    Path("deploy/kubernetes/producer.yaml"),
    Path("deploy/kubernetes/values.yaml"),
    Path("docs/install.md"),
    Path("README.md"),
)
_IN_PROJECT = re.compile(r'^version = "(.+)"$', re.MULTILINE)


def project_version(pyproject: str) -> str:
    """Return the version that a `pyproject.toml` sets. Raises ValueError if it sets none."""
    if found := _IN_PROJECT.search(pyproject):
        return found[1]
    raise ValueError("pyproject.toml sets no version")


def renamed(text: str, old: str, new: str) -> str:
    """Return the text with one version in place of another."""
    return re.sub(rf"(?<![\d.]){re.escape(old)}(?!\.?\d)", new, text)
