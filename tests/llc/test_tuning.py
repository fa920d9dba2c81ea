"""Momentum, minibatches and burn-in are proposed where closed forms say so, and kept elsewhere."""

import math
import re

import numpy as np
import pytest
import torch

from devsort.llc import tuning
from devsort.llc.settle import HOT
from devsort.llc.tuning import (
    BURNINS,
    COOL,
    LEFT,
    MOMENTA,
    STEPS,
    WINDOW,
    Chains,
    seen,
    tries,
    tuned,
)
from devsort.sampling import SamplerConfig, run_chains
from devsort.validation.formulas import UnderdampedQuadratic

BASE = SamplerConfig(
    geometry="absolute", sampling_method="baoab", momentum=0.5, batch_size=20, num_draws=200,
    num_burnin_steps=30,
)  # fmt: skip


class Bowl:
    """Σ (h/2 w² + tilt x w), each x the mean of as many ±1 as a minibatch has examples."""

    def __init__(self, h, size, chains, tilt=0.0, batch=20):
        self.h, self.tilt, self.batch = h, tilt, batch
        self.center = torch.zeros(chains, size, dtype=torch.float64)

    def __call__(self, w, step):
        if not self.tilt:
            loss = self.h / 2 * w.square().sum(1)
            return loss, torch.zeros_like(loss), self.h * w, {}
        generator = torch.Generator().manual_seed(step)
        signs = torch.randint(2, (*w.shape, self.batch), generator=generator) * 2.0 - 1
        x = self.tilt * signs.mean(2)
        loss = (self.h / 2 * w.square() + x * w).sum(1)
        return loss, torch.zeros_like(loss), self.h * w + x, {}


def drawn(base, h, size, chains, tilt=0.0):
    """The chains of all tries, of many chains each."""
    streams = [(c,) for c in range(chains)]
    return {
        config: {7: run_chains(Bowl(h, size, chains, tilt), config, streams)}
        for config in tries(base, base)
    }


def parted(trace, count):
    """The chains of one checkpoint as those of several."""
    each = len(trace.loss) // count
    return {i: trace.chains(slice(i * each, (i + 1) * each)) for i in range(count)}


def proposed(base, traces):
    return {t.name: t for t in tuned(base, traces)}


def test_tries_start_at_the_checkpoint_with_every_momentum():
    point = BASE.model_copy(update={"n_beta": 300.0, "lr": 1e-3, "num_burnin_steps": 90})
    found = tries(point, BASE.model_copy(update={"momentum": 0.6}))
    assert [c.momentum for c in found] == sorted({*MOMENTA, 0.6})
    assert {(c.n_beta, c.lr, c.num_burnin_steps, c.num_draws) for c in found} == {
        (300.0, 1e-3, 0, STEPS)
    }


@pytest.mark.parametrize(("variance", "size"), [(0.2, 80), (0.035, 20), (0.008, 10)])
def test_minibatches_follow_the_heat(variance, size, monkeypatch):
    """3/2 w² + σ x w with x = ±1: the heat is known, for any size of the minibatches."""
    monkeypatch.setattr(tuning, "MOMENTA", ())
    base = BASE.model_copy(update={"n_beta": 50, "localization": 50, "lr": 4e-3, "momentum": 0.6})
    traces = drawn(base, 3.0, 50, 16, variance**0.5)
    found = proposed(base, traces)["batch_size"]

    def share(batch):
        config = base.model_copy(update={"num_burnin_steps": 200, "num_draws": 200})
        chain = UnderdampedQuadratic(np.array([3.0]), config, noise=variance / batch)
        return chain.heat() / chain.expected()

    (row,) = seen(traces)
    assert row.heat == pytest.approx(share(20), rel=0.1)
    assert found.value == size and found.reason.startswith("kept") == (size == 20)
    assert share(size) < HOT and (size < 20 or share(size) > COOL / 2)


@pytest.mark.parametrize(("stiffness", "best"), [(0.1, 0.7), (1.0, 0.5)])
def test_momentum_follows_the_relaxation(stiffness, best):
    """A quadratic relaxes as its matrix says; `stiffness` is ε a."""
    base = BASE.model_copy(update={"n_beta": 40, "localization": 10, "lr": stiffness / 50})
    traces = {c: parted(t[7], 4) for c, t in drawn(base, 1.0, 1, 160).items()}
    exact = {c: relaxation(stiffness, c) for c in MOMENTA}
    for c in MOMENTA:
        logs = [math.log(row.relaxation) for row in seen(traces) if row.momentum == c]
        error = math.sqrt(4 * WINDOW * exact[c] / (160 * STEPS / 2))  # Sokal 1997, relative
        assert math.exp(np.mean(logs)) == pytest.approx(exact[c], rel=4 * error)
    found = proposed(base, traces)["momentum"]
    assert found.value == best == min(exact, key=exact.__getitem__)
    assert found.reason.startswith("kept") == (best == base.momentum)


def chains_of(momentum, **changes):
    """Chains at three checkpoints; a momentum of 0.9 forgets ten times as fast."""
    plain = {"llc": 100.0, "se": 1.0, "heat": 0.02, "heat_se": 0.001} | changes
    times = [(10, 11, 12), (1, 1.1, 1.25)][momentum == 0.9]
    return [Chains(momentum, 10 * i, relaxation=t, **plain) for i, t in enumerate(times)]


def test_a_momentum_that_changes_the_llc_is_left_out():
    base, kept = BASE.model_copy(update={"momentum": 0.5}), chains_of(0.5)
    assert tuning._momentum(base, kept + chains_of(0.9, llc=124.0)).value == 0.9
    found = tuning._momentum(base, kept + chains_of(0.9, llc=126.0))
    assert (found.value, found.reason) == (0.5, "kept: at all others λ̂ differs")
    unsure = chains_of(0.9, llc=200.0, se=60.0)  # within two standard errors
    assert tuning._momentum(base, kept + unsure).value == 0.9


def relaxation(stiffness, c):
    """Integrated autocorrelation time of w² in steps, from w, p → A (w, p) with h = 1."""
    A = np.array([[1 - stiffness * (1 + c) / 2, (1 + c) / 2], [-c * stiffness, c]])
    e = np.array([1 / 2, 1.0])
    S = np.zeros((2, 2))
    for _ in range(5000):
        S = A @ S @ A.T + (1 - c**2) * np.outer(e, e)
    power, total = np.eye(2), 1.0
    for _ in range(5000):
        power = A @ power
        total += 2 * ((power @ S)[0, 0] / S[0, 0]) ** 2
    return total


@pytest.mark.parametrize("stiffness", [0.3, 0.03, 0.01])
def test_burn_in_follows_the_approach(stiffness, monkeypatch):
    """Of many quadratics from w* the loss is known at every step."""
    monkeypatch.setattr(tuning, "MOMENTA", ())
    base = BASE.model_copy(update={"n_beta": 40, "localization": 10, "lr": stiffness / 50})
    traces = drawn(base, 1.0, 200, 60)
    (config,) = traces
    path = UnderdampedQuadratic(np.array([1.0]), config).moments()[:, 0]
    left = {b: (path[b : STEPS // 2] / path[-1] - 1).sum() / base.num_draws for b in BURNINS}
    expected = next(b for b in BURNINS if abs(left[b]) <= LEFT)
    found = proposed(base, traces)["num_burnin_steps"]
    assert found.value == expected
    told = float(re.search(r"adds (\S+)% ±", found.reason)[1]) / 100
    assert told == pytest.approx(left[expected], abs=0.005)


def test_chains_that_still_move_keep_their_burn_in(monkeypatch):
    monkeypatch.setattr(tuning, "MOMENTA", ())
    base = BASE.model_copy(update={"n_beta": 40, "localization": 10, "lr": 2e-5})
    found = proposed(base, drawn(base, 1.0, 20, 40))["num_burnin_steps"]
    assert found.value == base.num_burnin_steps
    assert found.reason == (
        "kept: chains of 300 steps still drift at step 7; a chain that needs more burn-in gets it"
    )


def test_nothing_is_proposed_from_checkpoints_that_are_no_minimum():
    base = BASE.model_copy(update={"n_beta": 40, "localization": 10, "lr": 1e-3})
    found = tuned(base, drawn(base, -0.1, 2, 4))
    reason = "kept: λ̂ is not positive at any checkpoint that was tried"
    assert [(t.name, t.value, t.reason) for t in found] == [
        ("momentum", 0.5, reason), ("batch_size", 20, reason), ("num_burnin_steps", 30, reason)
    ]  # fmt: skip


def test_sgld_has_neither_momentum_nor_measured_heat():
    base = BASE.model_copy(
        update={"sampling_method": "sgld", "n_beta": 40, "localization": 10, "lr": 1e-2}
    )
    assert len(tries(base, base)) == 1
    found = proposed(base, drawn(base, 1.0, 20, 10))
    assert list(found) == ["batch_size", "num_burnin_steps"]
    assert found["batch_size"].reason == "kept: no heat is measured"
    assert math.isclose(found["batch_size"].value, 20)
