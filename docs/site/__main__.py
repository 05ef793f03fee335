"""Build the docs as a site in build/site. Fails on a broken link, a page without a place, or a part from the internet.

The texts stay where the repository has them. Copies of them, in build/pages, get what the site needs: links have
titles instead of names of files, those to other files lead to the repository, and lists are indented as Python-Markdown
expects.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
PAGES, SITE = BUILD / "pages", BUILD / "site"
PACKAGE = ROOT / "src" / "peekaping_producer"
CONFIG = Path(__file__).with_name("zensical.toml")
SOURCE: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Source"]
NO_CODE_PAGES = {"demo"}
"""Folders of the package whose code nobody looks up."""

_LINK = re.compile(r"\[(?P<text>[^]\n]*(?:\n[^]\n]+)?)\]\((?!https?:|#)(?P<path>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
_LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>|url\([\"']?https?:")
_MERMAID = 'class="mermaid"'


def sources() -> dict[Path, str]:
    """Return the texts that become pages, with the names of these."""
    pages = {path: path.name for path in sorted((ROOT / "docs").glob("*.md"))}
    root = ("ARCHITECTURE", "CHANGELOG", "CONTRIBUTING", "SECURITY")
    pages |= {ROOT / f"{name}.md": f"{name.lower()}.md" for name in root}
    pages[ROOT / "benchmarks" / "README.md"] = "benchmarks.md"
    return pages


def for_site(text: str, source: Path, pages: dict[Path, str]) -> str:
    """Return a text as the site needs it. Raises ValueError for a link to a file that does not exist."""

    def target(link: re.Match[str]) -> str:
        path, words, anchor = Path(os.path.normpath(source.parent / link["path"])), link["text"], link["anchor"] or ""
        if path in pages:
            # The name of a file means nothing here.
            return f"[{_title(path) if words.endswith('.md') else words}]({pages[path]}{anchor})"
        if not path.exists():
            raise ValueError(f"{source.relative_to(ROOT)} links to {link['path']}, which does not exist")
        if path.suffix == ".svg":
            return f"[{words}]({path.name})"
        return f"[{words}]({SOURCE}/blob/main/{path.relative_to(ROOT)}{anchor})"

    return "".join(_lines(_LINK.sub(target, text)))


def _title(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def _lines(text: str) -> Iterator[str]:
    in_list = False
    for line in text.splitlines(keepends=True):
        if line[:1].strip():
            in_list = re.match(r"\d+\. ", line) is not None
        # A word after the language, as in `json status`, is for the tests.
        plain = re.sub(r"^(\s*```\w+) .*", r"\1", line)
        # Python-Markdown knows that a bar inside code does not end a cell.
        if plain.startswith("|"):
            plain = re.sub(r"`[^`]*`", lambda code: code[0].replace(r"\|", "|"), plain)
        yield f" {plain}" if in_list and plain.startswith("   ") else plain


def write_pages() -> set[str]:
    """Write all pages and return their names."""
    shutil.rmtree(PAGES, ignore_errors=True)
    (PAGES / "code").mkdir(parents=True)
    pages = sources()
    for path, name in pages.items():
        (PAGES / name).write_text(for_site(path.read_text(encoding="utf-8"), path, pages), encoding="utf-8")
    for extra in (*(ROOT / "docs").glob("*.svg"), CONFIG.with_name("site.css")):
        shutil.copy(extra, PAGES)
    code = {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")} - NO_CODE_PAGES
    for folder in code:
        (PAGES / "code" / f"{folder}.md").write_text(f"# {folder}\n\n::: {PACKAGE.name}.{folder}\n", encoding="utf-8")
    return {*pages.values(), *(f"code/{folder}.md" for folder in code)}


def in_navigation(part: object) -> set[str]:
    """Return the pages that a part of the navigation leads to."""
    if isinstance(part, str):
        return {part}
    parts = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return set[str]().union(*map(in_navigation, parts))


def from_the_internet() -> list[str]:
    """Return what pages and style sheets of the site would load from elsewhere."""
    files = [path for suffix in ("html", "css", "svg") for path in SITE.rglob(f"*.{suffix}")]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    found = [
        f"{path.relative_to(SITE)}: {match[0]}" for path, text in texts.items() for match in _LOADED.finditer(text)
    ]
    # The theme would load the program that draws these.
    return found + [f"{path.relative_to(SITE)}: a Mermaid diagram" for path, text in texts.items() if _MERMAID in text]


def main() -> int:
    """Build the site; return the exit code."""
    try:
        written = write_pages()
    except ValueError as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    named = in_navigation(tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]["nav"])
    problems = [f"{page} is in build/pages or in the nav of {CONFIG.name}, not in both" for page in written ^ named]
    if not problems:
        shutil.copy(CONFIG, BUILD)
        build = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", CONFIG.name]
        if subprocess.run(build, cwd=BUILD, env={**os.environ, "NO_COLOR": "1"}, check=False).returncode:
            return 1
        problems = from_the_internet()
    for problem in sorted(problems):
        print(f"docs: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
