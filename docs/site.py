"""Pages of the site that are files of the repository's root: README, changelog, contributing."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}


def on_files(files: Files, config: Any) -> Files:
    """Adds these pages, with their links as seen from docs/."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=_to_pages(text, "](")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page of docs/ links to these files one folder up."""
    return _to_pages(markdown, "../")


def _to_pages(text: str, before: str) -> str:
    after = before.replace("../", "")
    for source, page in PAGES.items():
        text = text.replace(before + source, after + page)
    return text
