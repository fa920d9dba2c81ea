"""The site holds every page; each concept has a picture and its symbols; formulas stay formulas."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import markdown
import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NAV = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
CONCEPTS = next(entry["Concepts"] for entry in NAV if "Concepts" in entry)
OF_THE_ROOT = {"index.md", "changelog.md", "contributing.md"}  # docs/site.py adds them
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def pages(entry: Any) -> Iterator[str]:
    """The pages of an entry of the navigation."""
    if isinstance(entry, str):
        yield entry
        return
    for inner in entry.values() if isinstance(entry, dict) else entry:
        yield from pages(inner)


def letters_that_lost_a_star(text: str) -> list[str]:
    """Letters after which a star was read as emphasis, as in w* … w*, and what follows it."""
    html = markdown.markdown(text, extensions=["fenced_code", "tables"])
    return re.findall(r"\w<em>[^<]*", html)


def test_every_page_is_in_the_navigation_once():
    there = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")]
    assert sorted(pages(NAV)) == sorted([*there, *OF_THE_ROOT])


@pytest.mark.parametrize("page", list(pages(CONCEPTS)))
def test_a_concept_has_a_picture_and_a_table_of_its_words_or_symbols(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    assert re.search(r"^!\[[^\]]+\]\([^)]+\.png\)", text, re.MULTILINE)
    assert re.search(r"^\| (symbol|word) \| meaning \|", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_formula_is_read_as_emphasis(page):
    assert letters_that_lost_a_star(page.read_text(encoding="utf-8")) == []


def test_a_formula_that_is_read_as_emphasis_is_seen():
    assert letters_that_lost_a_star("exp(−|w − w*|²) around w*, *here*") == ["w<em>|²) around w"]
    assert letters_that_lost_a_star("`exp(−|w − w*|²)` around w*, *here*") == []
