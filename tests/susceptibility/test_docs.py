"""docs/susceptibility.md says what is true: its blocks run as they stand, and its keys exist."""

import re
from pathlib import Path

import numpy as np
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


def test_the_example_over_training_ends_where_the_network_does(ran):
    kernels, last = ran["kernels"], ran["kernels"].sel(checkpoint=100)
    assert kernels.checkpoint.values.tolist() == [20, 100]
    apart = np.abs(last.correlation - ran["kernel"].table.correlation)  # of other noise
    assert float((apart > 5 * np.hypot(last.correlation_se, 0.05)).mean()) < 0.1
    assert ran["over"].chi.dims == ("checkpoint", "component", "part")


def test_every_case_of_the_page_exists():
    from devsort.validation.responses import response_cases

    named = re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)
    assert named == [case.name for case in response_cases()]
