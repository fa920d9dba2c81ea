"""docs/susceptibility.md says what is true: its blocks run as they stand, and its keys exist."""

import re
from pathlib import Path

import pytest
import torch

PAGE = (Path(__file__).parents[2] / "docs" / "susceptibility.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def ran():
    """The names that the blocks leave."""
    names: dict = {}
    with torch.random.fork_rng():
        for block in BLOCKS:
            exec(compile(block, "docs/susceptibility.md", "exec"), names)  # noqa: S102  our own page
    return names


def test_the_example_has_ten_statements():
    lines = [line for line in BLOCKS[1].splitlines() if line and not line.startswith((" ", ")"))]
    assert len(lines) <= 10


def test_the_example_answers_for_each_component_and_part(ran):
    table = ran["found"].table
    assert table.component.values.tolist() == ["first", "second"]
    assert table.part.values.tolist() == ["sure", "unsure"]
    # answers near the border hang on the weights more than the sure ones, which weigh more: χ
    # of a part and of the rest have opposite signs
    assert (table.chi[:, 0] * table.chi[:, 1] < 0).all()
    assert ran["kernel"].table.observed.values.tolist() == [*map(str, range(20)), "norm"]


def test_every_case_of_the_page_exists():
    from devsort.validation.responses import response_cases

    named = re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)
    assert named == [case.name for case in response_cases()]
