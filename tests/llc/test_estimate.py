"""Estimates from traces with known answers: value, error, coverage, and what is withheld."""

import dataclasses
import warnings

import numpy as np
import pytest

from devsort.llc import estimate
from devsort.llc.estimate import HEATING_ERROR
from devsort.llc.uncertainty import Mean, mean_of
from devsort.rng import stream
from devsort.sampling import SamplerConfig, Trace

CONFIG = SamplerConfig(geometry="absolute", n_beta=50.0, lr=1e-3)
LLC, SPREAD = 6.0, 2.0  # of nβ times the rise


def ar1(rng: np.random.Generator, phi: float, *shape: int) -> np.ndarray:
    """Stationary x_t = φ x_{t−1} + noise along the last axis, variance 1."""
    x = rng.normal(size=shape)
    for t in range(1, shape[-1]):
        x[..., t] = phi * x[..., t - 1] + np.sqrt(1 - phi**2) * x[..., t]
    return x


def exact_se(phi: float, chains: int, draws: int) -> float:
    """Standard error of the mean of stationary AR(1) chains of variance 1, of finite length."""
    lags = np.arange(1, draws)
    return float(np.sqrt((1 + 2 * np.sum((1 - lags / draws) * phi**lags)) / (chains * draws)))


def trace_of(values: np.ndarray, dimension: int = 12) -> Trace:
    """A trace whose nβ·rise is `values`, around a checkpoint of loss 0.5, in equilibrium."""
    flat, start = np.full(values.shape, float(dimension)), np.full(values.shape, 0.5)
    rise, empty = values / CONFIG.n_beta, np.empty((len(values), 0))
    draws = (start + rise, start, flat, 0 * flat, flat)
    return Trace(*draws, empty, empty, empty, {}, dimension, CONFIG)


def synthetic(seed: int, phi: float, chains: int, draws: int) -> np.ndarray:
    return LLC + SPREAD * ar1(stream(seed, "test ar1"), phi, chains, draws)


def test_the_value_is_n_beta_times_the_mean_rise_exactly():
    values = np.array([[1.0, 3.0, 2.0, 6.0], [5.0, 7.0, 6.0, 2.0]])
    found = estimate(trace_of(values))
    assert found.llc == pytest.approx(4.0, abs=1e-12)
    assert list(found.llc_chain) == pytest.approx([3.0, 5.0], abs=1e-12)


def test_a_trace_carries_the_temperature_it_was_drawn_at():
    trace = trace_of(np.array([[1.0, 3.0], [5.0, 7.0]]))
    colder = dataclasses.replace(trace, config=SamplerConfig(geometry="absolute", n_beta=100.0))
    assert estimate(colder).llc == pytest.approx(2 * estimate(trace).llc)


@pytest.mark.parametrize("phi", [0.0, 0.9])
def test_the_standard_error_is_that_of_the_process(phi):
    found = [estimate(trace_of(synthetic(seed, phi, 4, 500))).se for seed in range(60)]
    rms = np.sqrt(np.mean(np.square(found)))
    # 60 estimates of 6 degrees: ± 4 %
    assert rms == pytest.approx(SPREAD * exact_se(phi, 4, 500), rel=0.12)


@pytest.mark.parametrize(
    ("phi", "chains", "draws"), [(0.0, 4, 250), (0.9, 4, 250), (0.9, 8, 250), (0.9, 1, 1000)]
)
def test_the_interval_covers(phi, chains, draws):
    values = LLC + SPREAD * ar1(stream(1, "test coverage"), phi, 400, chains, draws)
    covered = [abs(m.value - LLC) < m.half_width() for m in map(mean_of, values)]
    assert 0.92 <= np.mean(covered) <= 0.98  # ± 1.1 % by chance


def test_the_interval_is_symmetric_and_students():
    from scipy.stats import t

    found = estimate(trace_of(synthetic(0, 0.5, 4, 200)))
    low, high = found.ci95
    assert (low + high) / 2 == pytest.approx(found.llc)
    assert high - low == pytest.approx(2 * t.ppf(0.975, 6) * found.se)


def test_the_interval_covers_whatever_share_of_the_error_is_of_the_heat():
    """The heat is measured with a scatter of its own, and known to HEATING_ERROR of itself."""
    rng = stream(2, "test heat")
    for heat, scatter in ((0.1, 0.02), (0.5, 0.02), (0.5, 0.3), (2.0, 0.1)):
        covered = []
        for _ in range(600):
            values = LLC + SPREAD * ar1(rng, 0.0, 4, 100)
            measured = heat + scatter * rng.normal(size=(4, 1))
            trace = trace_of(values + heat * (1 + HEATING_ERROR * rng.normal()))
            low, high = estimate(dataclasses.replace(trace, heating=measured)).ci95
            covered.append(low < LLC < high)
        assert 0.92 <= np.mean(covered) <= 0.98  # ± 0.9 % by chance


def test_errors_add_as_welch_and_satterthwaite_have_it():
    mean = Mean(value=10.0, se=3.0, dof=6.0, ess=50.0)
    found = mean.corrected(1.0, 4.0, 3.0)
    assert (found.value, found.se) == (9.0, 5.0)
    assert found.dof == pytest.approx(5**4 / (3**4 / 6 + 4**4 / 3))
    exact = mean.corrected(0.0, 4.0)
    assert exact.dof == pytest.approx(5**4 * 6 / 3**4)
    assert mean.corrected(1.0) == dataclasses.replace(mean, value=9.0)
    certain = dataclasses.replace(mean, se=0.0).corrected(0.0, 1.0)
    assert certain.half_width() == pytest.approx(1.96, abs=1e-3)


def test_ess_and_rhat_of_independent_and_of_stuck_chains():
    good = estimate(trace_of(synthetic(0, 0.0, 4, 500)))
    assert good.ess == pytest.approx(2000, rel=0.15) and good.rhat == pytest.approx(1, abs=0.01)
    correlated = estimate(trace_of(synthetic(0, 0.9, 4, 2000)))
    assert correlated.ess == pytest.approx(8000 / 19, rel=0.25)
    stuck = estimate(trace_of(synthetic(0, 0.0, 4, 500) + np.array([[0], [0], [4], [4]])))
    assert stuck.rhat > 1.3 and stuck.se > 10 * good.se


def test_chains_that_disagree_widen_the_error_though_each_is_sure():
    offsets = np.array([-1.0, 1.0, -1.0, 1.0])[:, None]
    found = estimate(trace_of(synthetic(0, 0.0, 4, 4000) + 3 * offsets))
    # at least the error between the chains, over √2
    assert found.se > 3 * np.sqrt(4 / 3) / 2 / np.sqrt(2) * 0.99


# ---- dead chains


def with_dead(values: np.ndarray, chain: int, since: int) -> Trace:
    values = values.copy()
    values[chain, since:] = np.nan
    return trace_of(values)


def test_one_dead_chain_withholds_the_estimate():
    found = estimate(with_dead(synthetic(0, 0.0, 4, 100), 2, 60))
    assert np.isnan([found.llc, found.se, *found.ci95, found.rhat, found.ess]).all()
    assert found.chains_failed == 1 and "dead_chains" in found.flags and "diverged" in found.flags
    assert np.isfinite(found.llc_chain[[0, 1, 3]]).all() and np.isnan(found.llc_chain[2])


def test_survivors_are_taken_if_asked_for_and_judged_as_they_are():
    values = synthetic(0, 0.0, 4, 100)
    found = estimate(with_dead(values, 2, 60), allow_dead=True)
    alone = estimate(trace_of(values[[0, 1, 3]]))
    for name in ("llc", "se", "ci95", "rhat"):
        assert getattr(found, name) == getattr(alone, name)
    numbers, same = dataclasses.astuple(found.diagnostics), dataclasses.astuple(alone.diagnostics)
    assert numbers == pytest.approx(same, nan_ok=True)
    assert found.chains_failed == 1 and found.flags == ("diverged", "dead_chains")


def test_a_chain_that_died_in_burn_in_is_dead():
    trace = trace_of(synthetic(0, 0.0, 2, 50))
    burnin = np.array([[0.5, np.inf], [0.5, 0.6]])
    trace = dataclasses.replace(trace, burnin_loss=burnin, burnin_init_loss=np.full((2, 2), 0.5))
    assert estimate(trace).chains_failed == 1


def test_all_chains_dead_leave_nothing_even_if_asked_for():
    found = estimate(trace_of(np.full((2, 20), np.nan)), allow_dead=True)
    assert np.isnan(found.llc) and found.chains_failed == 2 and "dead_chains" in found.flags


# ---- too little to say


@pytest.mark.parametrize("draws", [1, 2, 3])
def test_few_draws_leave_the_error_to_the_chains_and_warn_of_nothing(draws):
    values = synthetic(0, 0.0, 4, draws)
    with warnings.catch_warnings(action="error"):
        found = estimate(trace_of(values))
    assert found.llc == pytest.approx(values.mean())
    assert found.se == pytest.approx(values.mean(1).std(ddof=1) / 2)
    assert np.isnan(found.rhat) and np.isnan(found.ess)


def test_one_chain_of_one_draw_has_no_error():
    with warnings.catch_warnings(action="error"):
        found = estimate(trace_of(np.array([[2.0]])))
    assert found.llc == pytest.approx(2) and np.isnan(found.se)
    assert found.flags == ("unknown",)


def test_one_chain_has_the_error_of_its_autocorrelation():
    found = [estimate(trace_of(synthetic(seed, 0.8, 1, 2000))).se for seed in range(40)]
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(
        SPREAD * exact_se(0.8, 1, 2000), rel=0.12
    )


def test_a_constant_trace_is_known_exactly_between_chains():
    found = estimate(trace_of(np.full((3, 50), 2.0)))
    assert found.llc == pytest.approx(2) and found.se == pytest.approx(0, abs=1e-12)


def test_scaling_the_loss_scales_the_estimate():
    values = synthetic(3, 0.5, 4, 200)
    one, double = estimate(trace_of(values)), estimate(trace_of(2 * values))
    assert double.llc == pytest.approx(2 * one.llc) and double.se == pytest.approx(2 * one.se)
