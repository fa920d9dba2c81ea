"""The slow samplers on quadratics, whose answer is ½ Σ nβ h/(nβ h + γ)."""

import numpy as np
import pytest
import torch

from devsort.validation import reference
from devsort.validation.reference import Target, extrapolated, hmc

CURVATURE = torch.tensor([0.0, 0.2, 1.0, 4.0], dtype=torch.float64)
NOISE = 0.5  # variance of the gradient among single examples
TARGET = Target(torch.tensor([0.3, -1.0, 0.0, 2.0], dtype=torch.float64), 20.0, 4.0)
EXACT = float((20 * CURVATURE / (20 * CURVATURE + 4)).sum() / 2)


def bowl(w):
    moved = w - TARGET.star
    return (CURVATURE * moved**2).sum(1) / 2, CURVATURE * moved


def drawn(batch, seed):
    generator = torch.Generator().manual_seed(seed + 100)

    def gradient(w):
        rise, grad = bowl(w)
        noise = torch.randn(w.shape, generator=generator, dtype=w.dtype)
        return rise, grad + (NOISE / batch) ** 0.5 * noise

    return gradient


def test_extrapolation_removes_the_heat():
    found = extrapolated(TARGET, drawn, lr=4e-3, batch=16, chains=400, steps=1500)
    assert found.rhat < 1.02 and found.se < 0.01 * EXACT
    assert abs(found.llc - EXACT) < 3 * found.se


@pytest.mark.parametrize("weights", [(-1 / 3, 4 / 3), (1, 0), (5 / 3, -2 / 3)])
def test_other_weights_of_the_arms_are_seen(weights):
    arms = [
        reference.langevin(TARGET, drawn(size, i), 4e-3, 400, 1500, i)
        for i, size in enumerate((4, 1))
    ]
    value = float(np.dot(weights, [arm.llc for arm in arms]))
    assert abs(value - EXACT) > 4 * np.linalg.norm(np.multiply(weights, [a.se for a in arms]))


def test_hmc_is_right_at_a_step_that_is_too_large_for_langevin():
    found, accepted = hmc(TARGET, bowl, lr=0.2, steps=3, draws=400, chains=200)
    assert 0.3 < accepted < 0.98  # the test of Metropolis had something to do
    assert found.rhat < 1.02
    assert abs(found.llc - EXACT) < 3 * found.se
