"""The pages that people read, taken apart: links, headings, code."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "RESULTS.md", *sorted((ROOT / "docs").rglob("*.md"))]
PARSER = MarkdownIt("commonmark").enable("table")


def tokens(page: Path) -> Iterator[Token]:
    """The tokens of a page, those within a line too."""
    for token in PARSER.parse(page.read_text()):
        yield token
        yield from token.children or ()


def links(page: Path) -> Iterator[str]:
    """Where links and pictures point to, other sites left out."""
    for token in tokens(page):
        target = str(token.attrGet("href") or token.attrGet("src") or "")
        if target and "://" not in target:
            yield target


def anchors(page: Path) -> set[str]:
    """What a link can name in a page, as mkdocs makes it from a heading."""
    found = PARSER.parse(page.read_text())
    headings = [
        following.content for token, following in pairwise(found) if token.type == "heading_open"
    ]
    kept = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", heading) for heading in kept}


def blocks(page: Path, language: str) -> list[str]:
    """The code of a language in a page; "" is a block without one."""
    return [t.content for t in tokens(page) if t.type == "fence" and t.info == language]


def commands(page: Path) -> Iterator[str]:
    """The `ftbc` commands in a page: lines of blocks, and code within a line."""
    lines = [line for block in blocks(page, "") for line in block.replace("\\\n", " ").splitlines()]
    inline = [token.content for token in tokens(page) if token.type == "code_inline"]
    for text in (*lines, *inline):
        found = re.search(r"(?:^| )(?:(?:\S*/)?ftbc|-m ftbc_lightning) ([a-z].*)", text)
        if found and not text.startswith("Next:"):
            yield found[1]
