"""The noise: whitening against the covariance, and what chains and neighbours say of its size."""

import numpy as np
import pytest

from devsort.stages import Trajectory, noise
from devsort.stages.noise import Correlation, Noise

X = np.sort(np.random.default_rng(1).uniform(0, 4, 25))
S = np.random.default_rng(2).uniform(0.5, 2, 25)


@pytest.mark.parametrize(
    "correlation",
    [
        Correlation(),
        Correlation(decades=0.4),
        Correlation(neighbours=0.7),
        Correlation(neighbours=0.7, smooth=True),
    ],
)
def test_whitening_inverts_the_covariance(correlation):
    distance = np.abs(X[:, None] - X)
    apart = np.abs(np.arange(25)[:, None] - np.arange(25))
    r = np.eye(25)
    if correlation.decades:
        r = np.exp(-distance / correlation.decades)
    if correlation.neighbours:
        r = correlation.neighbours**apart
    if correlation.smooth:  # (1 + k (1 − a²) / (1 + a²)) a^k at a distance of k points
        r = r * (1 + apart * (1 - 0.7**2) / (1 + 0.7**2))
    lags = correlation.lags(X)
    covariance = S[:, None] * r * S
    w = noise.whiten(np.eye(25), S, lags)  # the whitening matrix
    assert np.allclose(w @ covariance @ w.T, np.eye(25), atol=1e-8)
    told = Noise("even", S[None], np.array([False]), correlation, lags)
    assert told.log_determinant == pytest.approx(np.linalg.slogdet(covariance)[1])
    values = np.random.default_rng(3).standard_normal((25, 3))
    assert np.allclose(noise.colour(noise.whiten(values, S, lags), S, lags), values)


def test_correlation_of_neighbours_reaches_over_few_of_the_points():
    few, many = (list(noise.correlations(np.linspace(0, 4, n))) for n in (40, 500))
    assert [c.neighbours for c in few if c.neighbours] == []
    assert [c.neighbours for c in many if c.neighbours and not c.smooth] == [0.4, 0.6, 0.8, 0.9]
    assert [c.neighbours for c in many if c.smooth] == [0.6, 0.8, 0.9]


def chains(offset, scatter, seed=0, n=400, count=4):
    rng = np.random.default_rng(seed)
    x = np.linspace(1, 4, n)
    values = 50 * x[:, None] + offset * rng.standard_normal(count)
    values = values + 0.5 * offset * (x[:, None] - 2.5) * rng.standard_normal(count)
    values = values + scatter * rng.standard_normal((n, count))
    se = values.std(1, ddof=1) / np.sqrt(count)
    return Trajectory(10**x, values.mean(1), np.full(n, np.median(se)), chains=values)


def test_what_chains_share_is_no_error_of_the_shape():
    apart = chains(offset=0.0, scatter=3.0)
    assert noise.shape_share(apart) * apart.se[0] == pytest.approx(1.5, rel=0.1)
    common = chains(offset=30.0, scatter=3.0)
    assert common.se[0] > 5
    assert noise.shape_share(common) * common.se[0] == pytest.approx(1.5, rel=0.1)


def test_chains_that_failed_or_are_too_few_say_nothing():
    t = chains(1.0, 1.0)
    t.chains[3, 1] = np.nan
    assert noise.shape_share(t) == 1.0
    two = chains(1.0, 1.0, count=2)
    assert noise.shape_share(two) == 1.0


def test_local_scatter_follows_the_data_and_no_slope():
    x = np.linspace(0, 4, 600)
    size = np.where(x < 2, 1.0, 5.0)
    y = 300 * x + size * np.random.default_rng(0).standard_normal(600)
    found = noise.local_scatter(x, y)
    assert np.median(found[:250]) == pytest.approx(1.0, rel=0.2)
    assert np.median(found[350:]) == pytest.approx(5.0, rel=0.2)


def test_a_trajectory_without_errors_has_no_profile_of_reported_ones():
    t = Trajectory(10 ** np.linspace(0, 3, 30), np.arange(30.0), np.full(30, np.nan))
    assert [name for name, *_ in noise.profiles(t)] == ["even", "proportional"]


def test_the_errors_at_the_ends_are_drawn_towards_their_neighbours():
    se = np.full(20, 4.0)
    se[[0, -1]] = 1.0
    expected = np.exp((np.log(1) + 3 * np.log(4)) / 4)
    assert noise.smoothed_errors(se)[[0, -1]] == pytest.approx(expected)
    assert noise.smoothed_errors(np.full(3, 2.0)) == pytest.approx(2.0)


def test_typical_scatter_is_the_standard_deviation_of_white_noise_on_a_line():
    x = np.arange(20_000.0)
    y = 3 * x + 5 * np.random.default_rng(0).standard_normal(len(x))
    assert noise.typical_scatter(y) == pytest.approx(5, rel=0.03)


def test_scatter_that_goes_with_a_power_of_the_step_is_taken_for_one():
    x = np.linspace(1, 4, 600)
    truth = 10 ** (2 - 0.8 * x)
    y = 5 * x + truth * np.random.default_rng(6).standard_normal(600)
    found = noise.power_of_step(x, noise.local_scatter(x, y))
    assert found == pytest.approx(truth, rel=0.15)
    assert np.ptp(np.diff(np.log(found))) == pytest.approx(0, abs=1e-9)
    assert noise.power_of_step(x, truth) == pytest.approx(truth)
