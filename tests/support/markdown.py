"""Headings of documents, as readers of Markdown link to them."""

import re


def headings(text: str) -> list[str]:
    """Return the headings of a document, without its blocks of code."""
    return re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)


def anchor(heading: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def anchors(text: str) -> list[str]:
    """Return the anchors of a document."""
    return [anchor(heading) for heading in headings(text)]
