"""Learning coefficients against published examples.

Chain averages against loops over their definition.
"""

import math
from itertools import product

import numpy as np
import pytest

from devsort.sampling.config import SamplerConfig
from devsort.validation.formulas import (
    Quadratic,
    deep_linear,
    normal_crossing,
    quasi_homogeneous,
    rank_regression,
    regression_with_minibatches,
)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((5, 3, 5), 6.5), ((5, 4, 5), 8), ((4, 3, 8), 6), ((8, 3, 4), 6), ((3, 8, 4), 6)],
)
def test_rank_regression_examples(sizes, expected):
    assert rank_regression(*sizes, rank=0).value == expected


def test_rank_regression_of_full_rank_is_regular():
    # M = N = H = r: w ↦ B A is a submersion onto all M N maps, so λ = M N / 2
    for n in range(1, 6):
        assert rank_regression(n, n, n, n) == (n * n / 2, 1)
    assert rank_regression(1, 1, 1, 0) == (0.5, 2)  # (b a)²: a normal crossing


@pytest.mark.parametrize(
    ("widths", "rank", "expected"),
    [
        ((4, 4, 4), 0, 6),
        ((4, 4, 4), 1, 7),
        ((4, 4, 4), 2, 7.5),
        ((4, 4, 4, 4), 0, 5.5),
        ((5, 5, 5, 5), 2, 11),
    ],
)
def test_deep_linear_examples(widths, rank, expected):
    assert deep_linear(widths, rank).value == expected


def test_two_layers_are_rank_regression_in_every_case():
    for M, H, N in product(range(1, 8), repeat=3):
        for r in range(min(M, H, N) + 1):
            assert deep_linear((M, H, N), r) == pytest.approx(rank_regression(M, H, N, r)), (
                M,
                H,
                N,
                r,
            )


def test_a_chain_of_single_units_is_a_normal_crossing():
    # (w1 w2 … wL)²: λ = 1/2, and all L variables attain it
    for depth in range(2, 7):
        assert deep_linear((1,) * (depth + 1), 0) == pytest.approx((0.5, depth))


def test_order_of_widths_does_not_matter_at_rank_zero():
    assert (
        len({deep_linear(widths, 0) for widths in [(2, 3, 5, 4), (5, 4, 3, 2), (4, 2, 5, 3)]}) == 1
    )


@pytest.mark.parametrize(
    "call", [lambda: rank_regression(2, 3, 4, 3), lambda: deep_linear((2, 3), -1)]
)
def test_impossible_ranks_are_refused(call):
    with pytest.raises(ValueError, match=r"rank -?\d does not fit widths \(2, 3"):
        call()


def test_simple_coefficients():
    assert quasi_homogeneous([1 / 2, 1 / 4]) == (0.75, 1)
    assert normal_crossing(1, 3) == (pytest.approx(1 / 6), 1)
    assert normal_crossing(2, 2) == (0.25, 2)


def config(n_beta, localization, lr, burnin=10**5, draws=1, **more):
    return SamplerConfig(
        geometry="absolute",
        n_beta=n_beta,
        localization=localization,
        lr=lr,
        num_burnin_steps=burnin,
        num_draws=draws,
        **more,
    )


@pytest.mark.parametrize(
    ("h", "n_beta", "gamma", "lr", "noise", "expected"),
    [(3, 50, 2, 1e-3, 0, 0.513), (3, 50, 2, 1e-3, 0.5, 0.673), (3, 50, 2, 1e-2, 0, 0.796)],
)
def test_stationary_values_checked_by_simulation_elsewhere(h, n_beta, gamma, lr, noise, expected):
    quadratic = Quadratic(np.array([float(h)]), config(n_beta, gamma, lr), noise)
    assert quadratic.stationary == pytest.approx(expected, abs=5e-4)
    assert quadratic.expected() == pytest.approx(quadratic.stationary)


def test_first_600_steps_with_the_burn_in_left_in():
    left_in = Quadratic(np.array([1.0]), config(100, 5, 1e-4, burnin=0, draws=600))
    assert left_in.expected() == pytest.approx(0.402, abs=5e-4)
    r = left_in.memory[0] ** 2
    assert left_in.expected() == pytest.approx(
        left_in.stationary * (1 - (1 - r**600) / (600 * (1 - r)))
    )


def test_small_steps_reach_the_continuous_limit():
    h, n_beta, gamma = np.array([0.5, 3.0]), 50, 2
    found = Quadratic(h, config(n_beta, gamma, 1e-9)).stationary
    assert found == pytest.approx((n_beta * h / (n_beta * h + gamma) / 2).sum(), rel=1e-6)


def test_expected_is_the_recursion_of_moments_step_by_step():
    c = config(40, 6, 5e-3, burnin=3, draws=5, num_steps_bw_draws=4, prior=2)
    h, noise, star = [0.0, 1.5, 4.0], [0.0, 0.2, 0.7], 1.3
    total = 0.0
    for hi, ci in zip(h, noise, strict=True):
        mean, second = 0.0, 0.0  # of u = w − w*
        kept = []
        for step in range(3 + 5 * 4):
            if step >= 3 and (step - 3) % 4 == 0:
                kept.append(40 * hi / 2 * second)
            keep, push = 1 - c.lr / 2 * (40 * hi + 6 + 2), -c.lr / 2 * 2 * star
            jump = c.lr + (c.lr / 2 * 40) ** 2 * ci
            second = keep**2 * second + 2 * keep * push * mean + push**2 + jump
            mean = keep * mean + push
        total += sum(kept) / len(kept)
    found = Quadratic(np.array(h), c, np.array(noise), np.full(3, star)).expected()
    assert found == pytest.approx(total, rel=1e-12)


def test_standard_error_is_the_double_sum_over_autocovariances():
    c = config(50, 2, 1e-3, draws=30, num_steps_bw_draws=3)
    quadratic = Quadratic(np.array([1.0, 3.0]), c)
    total = 0.0
    for h, rho, variance in zip([1.0, 3.0], quadratic.memory, quadratic.variance, strict=True):
        s = 50 * h / 2 * variance
        total += (
            sum(2 * s**2 * rho ** (2 * 3 * abs(i - j)) for i in range(30) for j in range(30))
            / 30**2
        )
    assert quadratic.standard_error() == pytest.approx(math.sqrt(total), rel=1e-12)


def test_standard_error_of_a_long_run_follows_the_autocorrelation_time():
    long = Quadratic(np.array([3.0]), config(50, 2, 1e-3, draws=10**6))
    r = long.memory[0] ** 2
    expected = math.sqrt(2 * long.stationary**2 * (1 + r) / (1 - r) / 10**6)
    assert long.standard_error() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_regression_is_the_fixed_point_over_every_possible_minibatch(batch_size):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 2))
    y = rng.normal(size=5)
    residuals = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    c = config(10, 3, 1e-2, batch_size=batch_size)
    covariance = np.zeros((2, 2))
    for _ in range(400):  # the slowest direction keeps 0.97 of itself a step
        batches = [
            _one_batch(x[list(b)], residuals[list(b)], covariance, c)
            for b in product(range(5), repeat=batch_size)
        ]
        covariance = sum(batches) / len(batches) + c.lr * np.eye(2)
    expected = c.n_beta * np.trace(x.T @ x / 5 @ covariance) / 2
    assert regression_with_minibatches(x, residuals, c) == pytest.approx(expected, rel=1e-6)


def _one_batch(x, residuals, covariance, c):
    n = len(x)
    keep = np.eye(2) - c.lr / 2 * (c.n_beta * x.T @ x / n + c.localization * np.eye(2))
    push = c.lr / 2 * c.n_beta * x.T @ residuals / n
    return keep @ covariance @ keep.T + np.outer(push, push)
