"""The site of the docs: what `make docs` checks too, before it builds the site, in less time."""

import re

from docs.site.pages import in_navigation, pages, pictures


def test_every_page_has_its_place_in_the_navigation() -> None:
    assert in_navigation() == pages().keys()


def test_a_link_leads_to_a_page_or_into_the_repository() -> None:
    texts = pages()
    there = {*texts, *(picture.name for picture in pictures())}
    for name, text in texts.items():
        links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
        assert [link for link in links if link not in there] == [], name


def test_pages_are_named_by_their_titles() -> None:
    assert "[Configuration](configuration.md" in pages()["install.md"]


def test_blocks_within_a_numbered_list_are_indented_by_four() -> None:
    assert "\n    ```sh\n    docker compose " in pages()["install.md"]
