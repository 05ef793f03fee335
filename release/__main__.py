"""`python -m release` builds and checks what is published. With a version, it first prepares that release.

To prepare it, it sets the version, wherever it is written, and the changelog's date, and commits and tags them.
It pushes and publishes nothing.
"""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from release.changelog import released
from release.distribution import make_distribution, uv
from release.version import NAMED_IN, project_version, renamed

CHANGELOG, PYPROJECT = Path("CHANGELOG.md"), Path("pyproject.toml")
CHANGED = tuple(map(str, (CHANGELOG, PYPROJECT, "uv.lock", *NAMED_IN)))
_VERSION = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")


def main() -> int:
    """Run the command; return the exit code."""
    try:
        match sys.argv[1:]:
            case []:
                make_distribution()
            case [version]:
                prepare(version)
            case _:
                raise ValueError("takes one version, or nothing")
    except ValueError as error:
        print(f"release: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(version: str) -> None:
    """Make the release's commit and tag, or change nothing.

    Raises ValueError for what the maintainer must change, CalledProcessError if a tool fails.
    """
    tag = f"v{version}"
    if not _VERSION.fullmatch(version):
        raise ValueError(f"{version!r} is not a version: it must look like 1.2.3 or 1.2.3rc1")
    if _git("status", "--porcelain"):
        raise ValueError("the work tree has changes: commit them first")
    if _git("tag", "--list", tag):
        raise ValueError(f"the tag {tag} exists")
    changelog = released(CHANGELOG.read_text("utf-8"), version, datetime.now(UTC).date())
    old = project_version(PYPROJECT.read_text("utf-8"))
    try:
        CHANGELOG.write_text(changelog, "utf-8")
        for path in NAMED_IN:
            path.write_text(renamed(path.read_text("utf-8"), old, version), "utf-8")
        uv("version", "--quiet", "--no-sync", version)
        make_distribution()
        _git("commit", "--quiet", "--message", f"Release {version}", *CHANGED)
    except BaseException:
        _git("checkout", "--quiet", "--", *CHANGED)
        raise
    _git("tag", "--annotate", "--message", f"Release {version}", tag)
    print(
        f"Committed and tagged {tag}; dist/ and build/ hold what will be published. To publish it:\n"
        f"    git push --atomic origin HEAD {tag}\n"
        f"To undo it:\n"
        f"    git tag --delete {tag} && git reset --hard HEAD~"
    )


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
