"""`python -m docs.site` builds the site in build/site.

It fails on a broken link or anchor, a page without a place in the navigation, or anything that a page would load from
the internet.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from docs.site.pages import CONFIG, ROOT, in_navigation, pages, pictures

BUILD = ROOT / "build"
PAGES, SITE = BUILD / "pages", BUILD / "site"
_LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>|url\([\"']?https?:")
_MERMAID = 'class="mermaid"'
"""The theme would load the program that draws these."""


def main() -> int:
    """Build the site; return the exit code."""
    try:
        found = _problems()
    except (ValueError, subprocess.CalledProcessError) as error:
        found = [str(error)]
    for problem in found:
        print(f"docs: {problem}", file=sys.stderr)
    return 1 if found else 0


def _problems() -> list[str]:
    """Build the site, and return what is wrong with it. Raises ValueError and CalledProcessError likewise."""
    texts = pages()
    if misplaced := texts.keys() ^ in_navigation():
        return [f"{name} is a page or in the nav of {CONFIG.name}, but not both" for name in sorted(misplaced)]
    for folder in (PAGES, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    for name, text in texts.items():
        _write(PAGES / name, text)
    for file in (*pictures(), CONFIG.with_name("site.css")):
        shutil.copy(file, PAGES)
    shutil.copy(CONFIG, BUILD)
    build = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", CONFIG.name]
    subprocess.run(build, cwd=BUILD, env={**os.environ, "NO_COLOR": "1"}, check=True)
    return [problem for file in sorted(SITE.rglob("*")) for problem in _from_the_internet(file)]


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _from_the_internet(file: Path) -> list[str]:
    if file.suffix not in {".html", ".css", ".svg"}:
        return []
    text = file.read_text(encoding="utf-8")
    found = [loaded[0] for loaded in _LOADED.finditer(text)] + [_MERMAID] * (_MERMAID in text)
    return [f"{file.relative_to(SITE)} loads from the internet: {loaded}" for loaded in found]


if __name__ == "__main__":
    sys.exit(main())
