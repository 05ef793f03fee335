"""Plain words: terms that a reader has to read twice stay out of docs, code, tests and what the producer prints."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BANNED = {
    r"(set )?aside": "invalid, skipped as invalid",
    r"told|tells?": "logged, reported, returned",
    r"away": "unavailable",
    r"mend(s|ed|ing)?": "fix",
    r"anew|afresh|of late|for good": "again, recently",
    r"who(so)?ever": "the one that",
    r"put off|puts off": "deferred",
    r"by copy|by copies|from (the )?copy|from copies": "served from the cache",
    r"hand(s|ed|ing)? on": "hands over, resigns",
    r"asked no more|needed no more|no more needed": "no longer in use",
    r"ended by time|by time": "expired",
    r"bears?|bore|borne": "has",
    r"stands": "is",
    r"(a|one|two|later) looks?|looks (at|for|whether|again|every|after)": "reads, polls",
    r"(that|what|which|id) is none": "invalid",
    r"by the event's word|whatever hangs": "on the strength of the event alone",
    r"unforeseen": "unexpected",
    r"honest|dig out|ear for": "nothing",
}
"""What must not be written, and what to write instead."""
WORDS = re.compile(rf"\b(?:{'|'.join(BANNED)})\b", re.IGNORECASE)
READ = {
    "docs": ["*.md", "docs/*.md", "benchmarks/*.md", "Makefile", ".ci/*", "deploy/**/*.sh", "deploy/**/*.y*ml"],
    "src": ["src/**/*.lua", "src/**/*.py"],
    "tools": ["benchmarks/**/*.py", "release/*.py", "docs/site/*.py", "chaos/*.py"],
    "tests": ["tests/**/*.py", "tests/**/*.lua"],
}


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered lines; of Python the comments and strings, and each name with its words apart."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(source.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in {tokenize.COMMENT, tokenize.STRING}:
            yield from enumerate(token.string.splitlines(), token.start[0])
        elif token.type == tokenize.NAME:
            yield token.start[0], re.sub(r"_|(?<=[a-z])(?=[A-Z])", " ", token.string)


def _paths(part: str) -> Iterator[Path]:
    for pattern in READ[part]:
        yield from (path for path in ROOT.glob(pattern) if not path.name.endswith("_pb2.py"))


@pytest.mark.parametrize("part", READ)
def test_plain_words(part: str) -> None:
    read = {path.relative_to(ROOT): path for path in _paths(part) if path != Path(__file__)}
    assert len(read) > 10, read
    found = [
        f"{name}:{number}: {text.strip()}"
        for name, path in read.items()
        for number, text in _texts(path)
        if WORDS.search(text)
    ]
    assert found == []
