"""README is short, and what its words promise exists."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_has_at_most_900_words():
    assert len(README.split()) <= 900


def test_its_make_targets_and_scripts_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z]+)`", README)) <= set(targets)
    scripts = re.findall(r"python (analysis/\w+\.py)", README)
    assert scripts and all((ROOT / script).is_file() for script in scripts)


def test_its_code_is_ten_lines_and_uses_public_names_alone():
    import devsort

    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    lines = [line for line in code.splitlines() if line and "import" not in line]
    assert len(lines) <= 10
    assert set(re.findall(r"devsort\.(\w+)", code)) <= set(devsort.__all__)


def test_the_citation_names_this_version():
    import devsort

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == devsort.__version__
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
