"""The check of units on a ReLU network: first layer × k, second / k is a symmetry."""

import re
from pathlib import Path

import pytest
import torch

import devsort
from devsort.errors import UserError

PAGE = (Path(__file__).parents[2] / "docs" / "units.md").read_text(encoding="utf-8")
MOVE = {"0.*": 4, "2.weight": 1 / 4}


@pytest.fixture
def network():
    """Loss, parameters and data of a network at its minimum."""
    generator = torch.Generator().manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Linear(3, 6), torch.nn.ReLU(), torch.nn.Linear(6, 1, bias=False)
    )
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / 2)
    x = torch.randn(200, 3, generator=generator)
    data = (x, net(x).detach())
    loss, params = devsort.module_loss(net, lambda m, b: (m(b[0]) - b[1]).square().mean())
    return loss, params, data


def rows(network, geometry: str, moves=None):
    loss, params, data = network
    config = devsort.SamplerConfig(
        geometry=geometry, n_beta=300, num_chains=8, num_draws=600, num_burnin_steps=150
    )
    if geometry == "absolute":
        config = config.model_copy(update={"lr": 2e-5, "localization": 1000.0})
    return devsort.check_units(loss, params, moves or {"move": MOVE}, data, config)


def test_the_relative_llc_does_not_depend_on_the_units_and_the_absolute_one_does(network):
    home, moved = rows(network, "relative")
    assert (home["move"], moved["move"]) == ("as it is", "move")
    assert home["se"] < 0.1 * home["llc"] and abs(moved["z"]) < 4
    home, moved = rows(network, "absolute")
    assert abs(moved["z"]) > 3


def test_a_move_that_is_no_symmetry_is_refused(network):
    with pytest.raises(UserError, match=r"changes the loss from .* to .*; give factors"):
        rows(network, "relative", {"half": {"0.*": 2}})
    with pytest.raises(UserError, match=r"^move 'odd': no parameter matches '3\.\*'; use \["):
        rows(network, "relative", {"odd": {"3.*": 2}})


def test_the_example_of_the_page_runs_as_it_stands(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with torch.random.fork_rng():  # Linear draws its weights, as a user's does
        eval(compile(code, "docs/units.md", "exec"), {})  # noqa: S307
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["absolute"] * 2 + ["relative"] * 2
