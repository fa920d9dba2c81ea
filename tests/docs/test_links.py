"""Every relative link of every Markdown file leads to a file, and every anchor to a heading."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NOT_OF_A_SLUG = re.compile(r"[^\w\- ]")


def tokens(text: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        yield token
        yield from token.children or []


def links(page: Path) -> list[str]:
    """Targets of links and pictures."""
    found = [t.attrs.get("href") or t.attrs.get("src") for t in tokens(page.read_text("utf-8"))]
    return [str(target) for target in found if target]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site name them."""
    lines = list(tokens(page.read_text("utf-8")))
    titles = [b.content for a, b in pairwise(lines) if a.type == "heading_open"]
    slugs = [NOT_OF_A_SLUG.sub("", t.lower()).strip().replace(" ", "-") for t in titles]
    count: Counter[str] = Counter()
    found = set()
    for slug in slugs:
        found.add(f"{slug}-{count[slug]}" if count[slug] else slug)
        count[slug] += 1
    return found


def broken(page: Path) -> list[str]:
    """What a page's relative links miss."""
    missing = []
    for link in links(page):
        target, _, anchor = link.partition("#")
        if ":" in target.split("/")[0]:  # of the web
            continue
        file = (page.parent / target).resolve() if target else page
        no_heading = anchor and file.suffix == ".md" and anchor not in anchors(file)
        if not file.exists() or no_heading:
            missing.append(link)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_link_is_broken(page):
    assert broken(page) == []


def test_a_broken_link_is_seen(tmp_path):
    (tmp_path / "other.md").write_text("# A title, with `code`\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[good](other.md#a-title-with-code) [too](other.md#twice-1) [web](https://a.b/c)\n"
        "[file](nothing.md) ![picture](no.png) [heading](other.md#thrice)\n\n`[code](x.md)`\n"
    )
    assert broken(page) == ["nothing.md", "no.png", "other.md#thrice"]
