"""The pages of the site, made from the texts in the repository.

Links get titles instead of names of files, those to other files lead to the repository, and lists are indented as
Python-Markdown expects.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("zensical.toml")
PACKAGE = ROOT / "src" / "peekaping_producer"
SOURCE: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Source"]
NO_CODE_PAGES = {"demo"}
"""Folders of the package whose code nobody looks up."""

_LINK = re.compile(r"\[(?P<text>[^]\n]*(?:\n[^]\n]+)?)\]\((?!https?:|#)(?P<path>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def pages() -> dict[str, str]:
    """Return the text of each page, by its name. Raises ValueError for a link to a file that does not exist."""
    named = _named()
    texts = {name: _for_site(path, named) for path, name in named.items()}
    code = {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")} - NO_CODE_PAGES
    return texts | {f"code/{folder}.md": f"# {folder}\n\n::: {PACKAGE.name}.{folder}\n" for folder in code}


def pictures() -> list[Path]:
    """Return the pictures, which lie beside the pages on the site."""
    return [*(ROOT / "docs").glob("*.svg"), *(ROOT / "docs" / "pictures").glob("*.png")]


def in_navigation() -> set[str]:
    """Return the pages that the navigation leads to."""
    return _pages_in(tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]["nav"])


def _pages_in(part: object) -> set[str]:
    if isinstance(part, str):
        return {part}
    parts = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return set[str]().union(*map(_pages_in, parts))


def _named() -> dict[Path, str]:
    """Return the texts that become pages, with the names of these."""
    root = ("ARCHITECTURE", "CHANGELOG", "CONTRIBUTING", "SECURITY")
    return (
        {path: path.name for path in sorted((ROOT / "docs").glob("*.md"))}
        | {ROOT / f"{name}.md": f"{name.lower()}.md" for name in root}
        | {ROOT / "benchmarks" / "README.md": "benchmarks.md"}
    )


def _for_site(source: Path, named: Mapping[Path, str]) -> str:
    def target(link: re.Match[str]) -> str:
        path, words, anchor = Path(os.path.normpath(source.parent / link["path"])), link["text"], link["anchor"] or ""
        if path in named:
            return f"[{_title(path) if words.endswith('.md') else words}]({named[path]}{anchor})"
        if not path.exists():
            raise ValueError(f"{source.relative_to(ROOT)} links to {link['path']}, which does not exist")
        if path.suffix in {".svg", ".png"}:
            return f"[{words}]({path.name})"
        return f"[{words}]({SOURCE}/blob/main/{path.relative_to(ROOT)}{anchor})"

    return "".join(_lines(_LINK.sub(target, source.read_text(encoding="utf-8"))))


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
