"""Each flag: a potential and settings that provoke it, and the healthy case beside it that must
raise none.

Provoked through `sample` on small potentials; w* is the origin unless said otherwise.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from devsort.llc import FLAGS, Estimate, estimate, flags
from devsort.sampling import sample
from devsort.sampling.config import SamplerConfig

Params = dict[str, Tensor]


def run(
    loss: Callable[[Params], Tensor], star: Params, chance: float | None = None, **settings
) -> Estimate:
    """The estimate of a chain; ε, nβ, γ and lengths are given by the case."""
    config = SamplerConfig(
        geometry="absolute",
        **{"num_chains": 4, "num_burnin_steps": 50, "num_draws": 300, **settings},
    )
    return estimate(sample(loss, star, config=config), chance_loss=chance)


def zeros(**sizes: int) -> Params:
    return {name: torch.zeros(size) for name, size in sizes.items()}


def quadratic(h: float) -> Callable[[Params], Tensor]:
    return lambda p: h / 2 * p["w"].square().sum()


def quadratic_case(h: float, d: int = 20, **settings) -> Estimate:
    return run(quadratic(h), zeros(w=d), **settings)


HEALTHY = {"n_beta": 100.0, "localization": 10.0}  # with h = 1, a = nβ h + γ = 110


def test_a_healthy_chain_raises_none():
    found = quadratic_case(1.0, lr=0.4 / 110, chance=np.log(10.0), **HEALTHY)
    assert found.flags == () and found.llc == pytest.approx(10 / 1.1 / 0.9, abs=4 * found.se)


# ---- diverged: exactly from ε a = 4 on


@pytest.mark.parametrize(("step", "expected"), [(3.8, ()), (4.1, ("diverged",))])
def test_diverged(step, expected):
    found = quadratic_case(3.0, n_beta=50.0, localization=2.0, lr=step / 152)
    assert tuple(f for f in found.flags if f == "diverged") == expected


def test_a_chain_at_infinity_is_diverged_and_dead():
    found = quadratic_case(3.0, n_beta=50.0, localization=2.0, lr=40 / 152)
    assert (
        found.chains_failed == 4
        and np.isnan(found.llc)
        and found.flags[:2] == ("diverged", "dead_chains")
    )


# ---- dead chains: a barrier at w = 1 that some chains jump


def barrier(p: Params) -> Tensor:
    # w²/2 near 0, infinite at 1, not a number beyond
    return (-torch.log(1 - p["w"]) - p["w"]).sum()


def test_dead_chains():
    found = run(barrier, zeros(w=1), n_beta=2.0, localization=1.0, lr=0.05, num_chains=6)
    assert 0 < found.chains_failed < 6 and "dead_chains" in found.flags and np.isnan(found.llc)
    safe = run(barrier, zeros(w=1), n_beta=200.0, localization=1.0, lr=0.002, num_chains=6)
    assert (
        safe.chains_failed == 0
        and safe.flags == ()
        and safe.llc == pytest.approx(0.55, abs=4 * safe.se)
    )


# ---- negative: w* is no minimum of what is sampled


def test_negative():
    shifted = lambda p: (p["w"] - 0.3).square().sum() / 2  # noqa: E731
    settings = {"n_beta": 100.0, "localization": 10.0, "lr": 0.003}
    found = run(shifted, zeros(w=20), **settings)
    assert "negative" in found.flags and found.ci95[1] < 0
    at_minimum = run(shifted, {"w": torch.full((20,), 0.3)}, **settings)
    assert at_minimum.flags == ()


# ---- not converged: too few steps for ε a, and chains that part for good


def test_not_converged_by_drift():
    settings = {"num_burnin_steps": 0, "d": 100, **HEALTHY}
    assert "not_converged" in quadratic_case(1.0, lr=0.004 / 110, **settings).flags
    assert quadratic_case(1.0, lr=0.5 / 110, **{**settings, "num_burnin_steps": 30}).flags == ()


def test_not_converged_by_rhat():
    # at v = −1 and, a little higher, at v = 1; w* is on the ridge
    def two_valleys(p: Params) -> Tensor:
        level = torch.sigmoid(5 * p["v"]).sum()
        return level * 0.05 + ((p["v"].square() - 1).square()).sum() + p["w"].square().sum() / 2

    settings = {"n_beta": 100.0, "localization": 0.1, "lr": 0.001, "num_chains": 8}
    found = run(two_valleys, zeros(v=1, w=4), **settings)
    assert found.rhat > 1.1 and "not_converged" in found.flags
    one = run(two_valleys, {"v": torch.full((1,), -1.0), "w": torch.zeros(4)}, **settings)
    assert "not_converged" not in one.flags


# ---- starting peak: the sharp directions flatten as v moves away, so what ε inflates is seen early
# only


def flattening(p: Params) -> Tensor:
    return p["w"].square().sum() / 2 / (1 + p["v"].square().sum())


@pytest.mark.parametrize(("step", "expected"), [(3.4, True), (0.1, False)])
def test_starting_peak(step, expected):
    found = run(
        flattening,
        zeros(w=8, v=1),
        n_beta=1000.0,
        localization=0.2,
        lr=step / 1000,
        num_burnin_steps=0,
        num_draws=800,
    )
    assert ("starting_peak" in found.flags) == expected


# ---- chance level


def test_chance_level():
    low, high = {"n_beta": 2.0, "localization": 1.0, "lr": 0.1}, {**HEALTHY, "lr": 0.003}
    assert "chance_level" in quadratic_case(1.0, chance=np.log(10.0), **low).flags
    # where a uniform guess means nothing
    assert "chance_level" not in quadratic_case(1.0, **low).flags
    assert quadratic_case(1.0, chance=np.log(10.0), **high).flags == ()


def test_a_checkpoint_that_is_at_chance_itself_measures_nothing():
    found = run(
        lambda p: 2.4 + p["w"].square().sum() / 2,
        zeros(w=20),
        chance=np.log(10.0),
        lr=0.003,
        **HEALTHY,
    )
    assert "chance_level" in found.flags and found.diagnostics.climb == 1


# ---- prior-dominated: λ̂ ∝ nβ, here d/2 · nβ h/(nβ h + γ)


@pytest.mark.parametrize(("localization", "expected"), [(1000.0, ("prior_dominated",)), (10.0, ())])
def test_prior_dominated(localization, expected):
    found = quadratic_case(
        1.0, n_beta=100.0, localization=localization, lr=0.3 / (100 + localization)
    )
    slope = localization / (100 + localization)  # d log λ̂ / d log nβ, exact up to the step size
    assert found.flags == expected and found.diagnostics.slope == pytest.approx(slope, abs=0.15)


def test_a_prior_dominates_as_localization_does():
    found = quadratic_case(1.0, n_beta=100.0, localization=0.0, prior=1000.0, lr=3e-4)
    assert found.flags == ("prior_dominated",)


# ---- improper: a flat arm without localization


def crossing(p: Params) -> Tensor:
    return (p["w"][0] * p["w"][1]).square()


def quartic(p: Params) -> Tensor:
    return p["w"].pow(4).sum()


def test_improper():
    settings = {"n_beta": 100.0, "lr": 0.004, "num_draws": 400, "num_steps_bw_draws": 3}
    assert "improper" in run(crossing, zeros(w=2), localization=0.0, **settings).flags
    assert "improper" not in run(crossing, zeros(w=2), localization=1.0, **settings).flags
    proper = run(quartic, zeros(w=4), localization=0.0, **settings)
    assert proper.flags == () and proper.llc == pytest.approx(1.0, abs=4 * proper.se + 0.02)


# ---- out of equilibrium: flat directions that the loss does not feel, with burn-in shorter than
# 2/(ε γ)


def with_flat_directions(p: Params) -> Tensor:
    return p["w"].square().sum() / 2 + 0 * p["flat"].sum()


@pytest.mark.parametrize(("localization", "expected"), [(1.0, ("out_of_equilibrium",)), (60.0, ())])
def test_out_of_equilibrium(localization, expected):
    found = run(
        with_flat_directions,
        zeros(w=20, flat=40),
        n_beta=100.0,
        localization=localization,
        lr=0.002,
    )
    assert found.flags == expected


def test_the_identity_holds_at_large_steps():
    found = quadratic_case(1.0, lr=3.0 / 110, d=50, num_draws=1000, **HEALTHY)
    assert (
        found.diagnostics.gap == pytest.approx(0, abs=0.05)
        and "out_of_equilibrium" not in found.flags
    )


# ---- noise


@pytest.mark.parametrize("chains", [1, 4])
def test_false_alarms_on_healthy_repeats_are_rare(chains):
    """160 repeats of a chain that is sampled for 50 autocorrelation times.

    At most 5 % may raise anything.
    """
    config = SamplerConfig(
        geometry="absolute",
        lr=0.4 / 110,
        num_chains=160 * chains,
        num_draws=250,
        num_burnin_steps=20,
        **HEALTHY,
    )
    trace = sample(quadratic(1.0), zeros(w=10), config=config)
    groups = np.arange(160 * chains).reshape(160, chains)
    raised = Counter(f for rows in groups for f in estimate(trace.chains(rows)).flags)
    assert sum(raised.values()) <= 8, raised


def test_flags_come_in_the_order_of_the_table_and_are_all_documented():
    table = [line for line in flags.__doc__.splitlines() if line.startswith("| ")]
    cells = [line.split("|")[1].strip() for line in table]
    assert tuple(filter(None, cells[1:])) == FLAGS


def test_what_a_reference_sampler_does_not_give_raises_no_flag():
    config = SamplerConfig(
        geometry="absolute", lr=0.4 / 110, num_draws=300, num_burnin_steps=50, **HEALTHY
    )
    trace = sample(quadratic(1.0), zeros(w=20), config=config)
    unknown = np.full_like(trace.work, np.nan)
    bare = dataclasses.replace(trace, work=unknown, force=unknown, distance=unknown)
    assert estimate(bare).flags == ()


# ---- what cannot be known


@pytest.mark.parametrize(
    ("chains", "draws", "lr", "expected"),
    [(1, 60, 1e-6, "not_converged"), (1, 1, 1e-4, "unknown"), (4, 3, 1e-4, "unknown")],
)
def test_a_chain_that_cannot_be_judged_is_flagged(chains, draws, lr, expected):
    """Five quadratic directions, λ = 2.5: a chain that hardly moves, and too few draws."""
    settings = {"n_beta": 500.0, "localization": 1.0, "num_burnin_steps": 0}
    loss = lambda p: p["w"].square().sum()  # noqa: E731
    found = run(loss, zeros(w=5), lr=lr, num_chains=chains, num_draws=draws, **settings)
    assert expected in found.flags
    assert np.isfinite(found.rhat) == (expected != "unknown")


def test_losses_that_never_change_are_not_taken_for_converged():
    found = run(lambda p: 0 * p["w"].sum(), zeros(w=5), n_beta=1.0, lr=1e-3, localization=1.0)
    assert found.llc == 0 and "unknown" in found.flags


def test_one_chain_that_has_settled_raises_nothing():
    found = quadratic_case(1.0, lr=0.4 / 110, num_chains=1, num_draws=2000, **HEALTHY)
    assert found.flags == () and found.rhat < 1.1
