"""`python -m release` builds and checks what is published; with a version, it prepares that release first.

Then it sets the version and the changelog's date, and commits and tags them. It pushes and publishes nothing.
"""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from release.changelog import released
from release.distribution import make_distribution, uv

CHANGELOG = Path("CHANGELOG.md")
CHANGED = (str(CHANGELOG), "pyproject.toml", "uv.lock")
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
        raise ValueError(f"{version!r} is no version: must be like 1.2.3 or 1.2.3rc1")
    if _git("status", "--porcelain"):
        raise ValueError("the work tree has changes: commit them first")
    if _git("tag", "--list", tag):
        raise ValueError(f"the tag {tag} exists")
    text = released(CHANGELOG.read_text("utf-8"), version, datetime.now(UTC).date())
    try:
        CHANGELOG.write_text(text, "utf-8")
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
