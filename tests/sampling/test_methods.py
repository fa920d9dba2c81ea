"""BAOAB against a scalar loop, its limits, and what it says of its heat."""

import math

import numpy as np
import pytest
import torch
from sampling.test_chains import ODD, ROWS, STAR, bowl, double

from devsort.llc import estimate
from devsort.rng import torch_stream
from devsort.sampling import SamplerConfig, minibatches, sample
from devsort.sampling.methods import Baoab, heating
from devsort.sampling.noise import BLOCK, STEPS

UNDERDAMPED = ODD.model_copy(update={"sampling_method": "baoab", "momentum": 0.7})


def test_the_trace_is_that_of_a_scalar_loop():
    trace = sample(bowl, double(STAR), ROWS.double(), UNDERDAMPED)
    rows = minibatches(11, range(3), 19, 2, 4).tolist()
    for chain in range(3):
        losses = loop_chain(torch_stream(11, "noise", chain), rows[chain])
        np.testing.assert_allclose(trace.burnin_loss[chain], losses[:4], rtol=1e-10)
        np.testing.assert_allclose(trace.loss[chain], losses[4::3], rtol=1e-10)


def loop_chain(generator, rows):
    """The loss before each step, kick, half drift, momentum, half drift, in Python floats."""
    table, star = ROWS.double().tolist(), STAR["w"].double().tolist()
    block = torch.empty(min(STEPS, BLOCK // 2), 2, dtype=torch.float64)
    noise, h, c = block.normal_(generator=generator).tolist(), math.sqrt(3e-3), 0.7
    w, p, losses = list(star), [0.0, 0.0], []
    for step, batch in enumerate(rows):
        losses.append(sum((w[i] - table[r][i]) ** 4 / 4 for r in batch for i in range(2)))
        for i in range(2):
            slope = sum(2 * (w[i] - table[r][i]) ** 3 for r in batch) / 2
            p[i] -= h * (17 * slope + 4 * (w[i] - star[i]) + 2.5 * w[i])
        for i in range(2):
            w[i] += h / 2 * p[i]
            p[i] = c * p[i] + math.sqrt(1 - c * c) * 0.6 * noise[step][i]
            w[i] += h / 2 * p[i]
    return losses


def test_without_momentum_it_is_leimkuhler_matthews():
    generator = torch.Generator().manual_seed(0)
    forces, noises = torch.randn(2, 6, 3, 5, generator=generator, dtype=torch.float64)
    config = UNDERDAMPED.model_copy(update={"momentum": 0.0, "noise_level": 1.0})
    w = torch.zeros(3, 5, dtype=torch.float64)
    expected, before = w.clone(), torch.zeros_like(w)
    method = Baoab(config, w)
    for force, noise in zip(forces, noises, strict=True):
        method.step(w, force, noise)
        expected += -3e-3 / 2 * force + math.sqrt(3e-3) * (before + noise) / 2
        before = noise
        torch.testing.assert_close(w, expected, rtol=0, atol=1e-14)


def test_heat_is_the_trace_of_the_noise_in_directions_that_the_loss_feels():
    """G in 500 directions has the noise Σ = 4 nβ² among minibatches; half of them are stiff, with
    draws at zero, half flat, with draws of variance 1/γ, where there is no loss to heat."""
    config = UNDERDAMPED.model_copy(update={"prior": 0.0})
    generator = torch.Generator().manual_seed(1)
    delta = math.sqrt(2 * 4) * torch.randn(4000, 500, generator=generator)
    moved = torch.randn(4000, 500, generator=generator) / math.sqrt(4)
    moved[:, ::2] = 0
    expected = (1.7 / 0.3) * 3e-3 / 8 * 17**2 * 4 * 250
    found = heating(delta, torch.stack([moved.roll(k, 0) for k in range(1, 9)]), config).double()
    assert float(found.mean()) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("momentum", "batch"), [(0.0, 8), (0.5, 16), (0.9, 128)])
def test_the_heat_of_small_minibatches_is_taken_off(momentum, batch):
    """Least squares on 64 rows, a tenth too high, against the exact λ = ½ Σ nβ h/(nβ h + γ)."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(64, 4, generator=generator)
    y = torch.randn(64, generator=generator)
    star = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    config = SamplerConfig(
        geometry="absolute", sampling_method="baoab", momentum=momentum, lr=4e-3, n_beta=20,
        localization=5, batch_size=batch, num_chains=600, num_burnin_steps=300, num_draws=300,
    )  # fmt: skip
    trace = sample(
        lambda p, r: (r[0] @ p["w"] - r[1]).square().mean() / 2, {"w": star}, (x, y), config
    )
    stiffness = 20 * torch.linalg.eigvalsh((x.T @ x / 64).double())
    exact = float((stiffness / (stiffness + 5)).sum() / 2)
    found = estimate(trace)
    assert found.heat > 0.05 * exact  # it can be seen
    assert abs(found.llc - exact) < 2 * found.se


def test_sgld_measures_no_heat():
    trace = sample(bowl, STAR, ROWS, ODD)
    assert trace.heating.shape == (3, 0)
    assert estimate(trace).heat == 0


def test_heat_is_measured_at_every_tenth_draw():
    many = UNDERDAMPED.model_copy(update={"num_draws": 21})
    assert sample(bowl, STAR, ROWS, many).heating.shape == (3, 3)
