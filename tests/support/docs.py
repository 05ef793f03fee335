"""The blocks of code in the docs, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)


class Block(Struct, frozen=True):
    """A block of code."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """Where it is."""
        return f"{self.page.name}:{self.line}"


class Command(Struct, frozen=True):
    """One command of a shell, without what it redirects."""

    variables: dict[str, str]
    """Set in front of it, or by `export`."""
    words: list[str]


def blocks() -> Iterator[Block]:
    """Yield all blocks of README and docs."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in _BLOCK.finditer(text):
            plain = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
            yield Block(page, text.count("\n", 0, found.start()) + 1, found["language"], plain)


def inline_code(page: Path) -> list[str]:
    """Return what a page sets in code within its text."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return [" ".join(code.split()).replace(r"\|", "|") for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


def commands(script: str) -> Iterator[Command]:
    """Yield the commands of a script as simple as those in the docs are."""
    script = re.sub(r"(^|\s+)# .*$|[12]?>&[12]", "", script.replace("\\\n", " "), flags=re.MULTILINE)
    lexer = shlex.shlex(script, posix=True, punctuation_chars=";&|\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word.strip(";&|\n"):
            words.append(word)
        elif words:
            yield _command(words)
            words = []


def _command(words: list[str]) -> Command:
    if words[0] == "export":
        words = words[1:]
    variables = {}
    while words and re.match(r"[A-Z_]+=", words[0]):
        name, _, variables[name] = words[0].partition("=")
        words = words[1:]
    return Command(variables, words)
