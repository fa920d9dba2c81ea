"""Quadrature against published tables, against itself refined, and against the discrete chain
solved exactly.
"""

import math

import numpy as np
import pytest
import torch

from devsort.sampling.config import SamplerConfig
from devsort.validation import potentials, quadrature
from devsort.validation.formulas import Quadratic

TINY = 1e-12  # a step so small that only the continuous posterior is left


def settings(n_beta, localization, lr=TINY, **more):
    return SamplerConfig(
        geometry="absolute", n_beta=n_beta, localization=localization, lr=lr, **more
    )


@pytest.mark.parametrize(
    ("power", "values"),
    [(2, (0.498, 0.492, 0.372)), (4, (0.243, 0.218, 0.031)), (6, (0.157, 0.123, 0.002))],
)
def test_powers_with_localization(power, values):
    found = [potentials.powers(power).truth(settings(145, gamma)).value for gamma in (1, 5, 100)]
    assert found == pytest.approx(values, abs=6e-4)


@pytest.mark.parametrize("n_beta", [1, 145, 1e5])
def test_without_localization_quasi_homogeneous_values_are_lambda_at_every_n_beta(n_beta):
    for potential in (
        potentials.powers(2),
        potentials.powers(6),
        potentials.powers(2, 4),
        potentials.radial(3, 2),
    ):
        assert potential.truth(settings(n_beta, 0)).value == pytest.approx(
            potential.limit.value, rel=1e-4
        )


CROSSINGS = {  # γ = 1, nβ = 144.76; γ = 1, nβ = 10⁴; γ = 0 in the box ±1
    (0, 1): (0.500, 0.500, 0.500),
    (1, 1): (0.383, 0.422, 0.380),
    (0, 2): (0.247, 0.250, 0.250),
    (1, 2): (0.221, 0.240, 0.223),
    (2, 2): (0.161, 0.185, 0.156),
    (0, 3): (0.160, 0.165, 0.167),
    (1, 3): (0.149, 0.161, 0.154),
    (3, 3): (0.096, 0.111, 0.088),
}


@pytest.mark.parametrize("powers", CROSSINGS, ids=str)
def test_normal_crossings_at_finite_n_beta(powers):
    crossing = potentials.crossing(*powers)
    found = [crossing.truth(settings(n_beta, 1)).value for n_beta in (144.76, 1e4)]
    box = next(
        quadrature.grid(crossing.loss, crossing.star, settings(144.76, 0), 400, 8.0, box=1.0)
    )
    assert [*found, float(box.weight @ box.energy)] == pytest.approx(CROSSINGS[powers], abs=1.1e-3)


def test_an_improper_posterior_is_refused():
    with pytest.raises(ValueError, match="improper"):
        potentials.crossing(1, 1).truth(settings(100, 0))


def test_grids_are_fine_enough():
    for potential, size, crowding in [
        (potentials.crossing(1, 2), 800, 8.0),
        (potentials.radial(3, 2), 90, 1.0),
    ]:
        fine = next(
            quadrature.grid(potential.loss, potential.star, settings(30, 1), size, crowding)
        )
        assert potential.truth(settings(30, 1)).value == pytest.approx(
            float(fine.weight @ fine.energy), rel=1e-4
        )


def exact_chain(slope, value, n_beta, lr, edge, size=401):
    """nβ E[L] of the discrete chain in one dimension, by 4000 steps of its transition matrix from
    the centre.
    """
    w = np.linspace(-edge, edge, size)
    target = w - lr / 2 * n_beta * slope(w)
    transition = np.exp(-((w[None] - target[:, None]) ** 2) / (2 * lr))
    transition /= transition.sum(1, keepdims=True)
    density = np.eye(size)[size // 2]
    for _ in range(4000):
        density = density @ transition
    return n_beta * float(density @ value(w))


@pytest.mark.parametrize(("power", "lr", "edge"), [(2, 4e-3, 0.6), (4, 1e-2, 1.2), (6, 1e-2, 1.0)])
def test_effect_of_the_step_against_the_chain_solved_exactly(power, lr, edge):
    truth = potentials.powers(power).truth(settings(50, 0, lr=lr))
    exact = exact_chain(lambda w: power * w ** (power - 1), lambda w: w**power, 50, lr, edge)
    assert abs(exact - 1 / power) > 0.005  # the effect is there
    # and what first order leaves out is within the bound
    assert abs(truth.value - exact) <= truth.error
    assert abs(truth.value - exact) < 0.3 * abs(exact - 1 / power)


def test_effect_of_the_step_on_a_quadratic_with_localization_and_prior():
    c = settings(40, 6, lr=1e-3, prior=4, num_burnin_steps=10**5, num_draws=1)
    exact = Quadratic(np.array([2.0]), c).expected()
    star = {"w": torch.zeros(1)}
    nodes = quadrature.grid(lambda p: p["w"].square().sum(), star, c, 2000, 1.0)
    truth = quadrature.chain_mean(lambda p: p["w"].square().sum(), star, c, nodes)
    assert truth.value == pytest.approx(exact, abs=truth.error)
    assert truth.error < 0.005 * exact


def test_two_quadratures_of_rank_regression_agree():
    c = settings(100, 10, lr=5e-4)
    grid = potentials.reduced_rank(3, 2, 3).truth(c)
    sobol = potentials.linear_network((3, 2, 3), 0).truth(c)
    assert abs(grid.value - sobol.value) <= grid.error + sobol.error < 0.01


@pytest.mark.parametrize("sizes", [(1, 2, 5), (3, 2, 3), (2, 3, 7), (8, 2, 3)])
def test_rank_regression_reaches_its_learning_coefficient(sizes):
    potential = potentials.reduced_rank(*sizes)
    value = next(quadrature.wishart(*sizes, settings(1e8, 1), 300))
    found = float(value.weight @ value.energy)
    assert potential.limit.multiplicity == 1
    assert found == pytest.approx(potential.limit.value, rel=1e-3)


def test_multiplicity_two_is_approached_logarithmically():
    # d(nβ E[L]) / d(1/log nβ) → −(m − 1)
    values, logs = [], []
    for n_beta, gamma in ((1e7, 1e-4), (1e10, 1e-10)):  # only nβ/γ² matters: 10^15 and 10^30
        nodes = next(quadrature.wishart(1, 1, 1, settings(n_beta, gamma), 2000))
        values.append(float(nodes.weight @ nodes.energy))
        logs.append(1 / math.log(n_beta / gamma**2))
    assert potentials.reduced_rank(1, 1, 1).limit.multiplicity == 2
    assert (values[1] - values[0]) / (logs[1] - logs[0]) == pytest.approx(-1, abs=0.15)


def test_blocks_add_up():
    c = settings(30, 5, lr=1e-3)
    a, b = potentials.powers(4), potentials.radial(2, 2)
    whole = potentials.blocks(a=a, b=b)
    assert whole.truth(c).value == pytest.approx(a.truth(c).value + b.truth(c).value)
    params = {"a.w": torch.tensor([0.5]), "b.w": torch.tensor([1.0, 2.0])}
    assert float(whole.loss(params)) == 0.5**4 + 5.0**2
    assert whole.limit.value == pytest.approx(0.75)


@pytest.mark.parametrize(
    "potential",
    [
        potentials.quadratic([1.0, 2.0], center=3.0),
        potentials.crossing(1, 2),
        potentials.reduced_rank(3, 2, 4),
        potentials.linear_network((2, 3, 2, 4), 1),
    ],
)
def test_potentials_have_their_minimum_zero_at_the_start(potential):
    assert float(potential.loss(potential.star)) == 0
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        moved = {
            n: v + torch.randn(v.shape, generator=generator) for n, v in potential.star.items()
        }
        assert float(potential.loss(moved)) > 0
