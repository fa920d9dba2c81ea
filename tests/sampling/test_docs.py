"""docs/sampling.md says what is true: its examples run as they stand."""

import ast
import re
import runpy
from pathlib import Path

import pytest
import torch

from devsort.sampling.config import SamplerConfig
from devsort.validation.formulas import regression_with_minibatches

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "sampling.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(code: str, folder: Path) -> dict:
    path = folder / "example.py"
    path.write_text(code, encoding="utf-8")
    with torch.random.fork_rng():  # Linear draws initial weights, as a user's module does
        return runpy.run_path(str(path))


def test_the_example_of_a_users_module_gives_the_exact_answer(tmp_path, capsys):
    names = run(BLOCKS[0], tmp_path)
    found, config = names["found"], names["config"]
    # the example's loss has no factor 1/2: least squares at twice the temperature
    # residuals are zero
    x = torch.cat([names["x"], torch.ones_like(names["x"])], 1).double().numpy()
    halves = config.model_copy(update={"n_beta": 2 * config.n_beta})
    exact = regression_with_minibatches(x, x[:, 0] * 0, halves)
    assert found.se < 0.03
    assert found.llc == pytest.approx(exact, abs=0.1)
    assert exact == pytest.approx(1, abs=0.05)  # as the page says
    assert capsys.readouterr().out == f"{found.llc:.2f} ± {found.se:.2f} {found.flags}\n"
    assert found.flags == ()


def test_the_example_has_ten_lines_of_code():
    statements = ast.parse(BLOCKS[0]).body
    code = [s for s in statements if not isinstance(s, ast.Import | ast.ImportFrom)]
    assert len(code) <= 10


def test_the_formulas_print_what_the_comments_say(tmp_path, capsys):
    run(BLOCKS[1], tmp_path)
    assert capsys.readouterr().out.split() == re.findall(r"# ([\d.]+)", BLOCKS[1])


def test_the_table_names_every_setting_of_the_step():
    settings = {"lr", "n_beta", "localization", "prior", "batch_size"}
    assert settings <= set(re.findall(r"`(\w+)`", PAGE))
    assert settings <= set(SamplerConfig.model_fields)


def test_the_tests_that_the_page_on_reliability_names_are_there():
    page = (DOCS / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"\| `(test_\w+\.py)`: `(test_\w+)` \|", page)
    folder = Path(__file__).parent
    missing = [n for file, n in named if f"def {n}(" not in (folder / file).read_text()]
    assert len(named) >= 12 and not missing
